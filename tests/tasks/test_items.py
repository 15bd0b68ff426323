import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from mipo_eval.errors import DataError
from mipo_eval.records import Item
from mipo_eval.tasks.items import read_items, write_items

GOOD = {
    "item_id": "tea-u1",
    "prompt": "How do I brew tea?",
    "context": "I am nine.",
    "preferences": ["Use words a child knows.", "Be brief."],
    "rubric": ["Are the words simple?", {"criterion": "Is it brief?", "scores": {"1": "no"}}],
    "reference": "Ask a grown-up to boil water.",
    "user_id": "u1",
    "group_id": "tea",
    "meta": {"rejected": "Heat water to 368 K.", "n": 1},
}


def line(**changes: object) -> str:
    return json.dumps(GOOD | changes)


def without(field: str) -> str:
    return json.dumps({name: value for name, value in GOOD.items() if name != field})


def error(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        list(read_items(path))
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "items.jsonl"
    items = [Item.model_validate(GOOD), Item(item_id="b", prompt="Größe? \u2028 🙂")]
    assert write_items(path, items) == 2
    assert list(read_items(path)) == items
    assert [item.name for item in path.parent.iterdir()] == ["items.jsonl"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_blank_lines_bom_and_crlf_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_bytes(
        b"\xef\xbb\xbf" + line().encode() + b"\r\n\r\n" + line(item_id="b").encode() + b"\n\n"
    )
    assert [item.item_id for item in read_items(path)] == ["tea-u1", "b"]


@pytest.mark.parametrize(
    ("second_line", "message"),
    [
        ('{"item_id": "b"', "line 2: is not JSON (Expecting"),
        ("[1]", "line 2: is a list, not a JSON object"),
        ('"b"', 'line 2: is "b", not a JSON object'),
        ("7", "line 2: is 7, not a JSON object"),
        ("null", "line 2: is null, not a JSON object"),
        (line(promt="x"), "line 2, field promt: is not known (known: item_id, prompt, context,"),
        (without("prompt"), "line 2, field prompt: is missing; add it"),
        (line(prompt=" \t"), "line 2, field prompt: is blank"),
        (line(prompt=3), "line 2, field prompt: must be text, not the number 3"),
        (line(prompt=None), "line 2, field prompt: must be text, not null"),
        (line(preferences="be brief"), "line 2, field preferences: must be a list, not text"),
        (line(preferences=["a", ""]), "line 2, field preferences.1: is blank"),
        (line(rubric=["a"]), "line 2, field rubric: has 1 entries for 2 preferences"),
        (line(rubric=["a", 5]), "line 2, field rubric.1: must be text, not the number 5"),
        (line(meta=[]), "line 2, field meta: must be an object, not a list"),
        (line(item_id="tea-u1 "), "line 2, field item_id: 'tea-u1' was already used in line 1"),
        (line(item_id=None, prompt=None), "(and 1 more in this line)"),
        ('{"item_id": "b", "prompt": "\\ud83d"}', "line 2, field prompt: holds half of a surrog"),
        (line(item_id="b", meta={"a": [{"\udc00": 1}]}), "line 2, field meta: holds half of a"),
        (
            '{"item_id": "b", "prompt": "p", "meta": {"x": NaN}}',
            "line 2: holds NaN, which is not JSON",
        ),
        ('{"item_id": ' + "9" * 5000 + "}", "line 2: holds a number of too many digits"),
        ("[" * 100_000, "line 2: is nested too deeply"),
        (line(meta={"a": float("inf")}), "line 2: holds Infinity, which is not JSON"),
        (line().replace("368", "3\\ud8008"), "line 2, field meta: holds half of a surrog"),
        (
            line(item_id="b", meta={"a": 1}).replace("1}", "1e999}"),
            "field meta is inf, not a finite",
        ),
        ('{"item_id": "b", "item_id": "c"}', 'has the field "item_id" twice in one object'),
    ],
)
def test_errors_name_file_line_and_field(tmp_path: Path, second_line: str, message: str) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(line() + "\n" + second_line + "\n")
    text = error(path)
    assert text.startswith(f"{path}, line 2")
    assert message in text


def test_items_before_the_wrong_line_come_out(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(line() + "\nnonsense\n")
    items = read_items(path)
    assert next(items).item_id == "tea-u1"
    with pytest.raises(DataError, match="line 2"):
        next(items)


def test_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_bytes('{"item_id": "é"'.encode("latin-1"))
    assert error(path) == f"{path}, line 1: is not UTF-8 text (byte 14); save the file as UTF-8"


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty"), (b"\n \n", "contains no items")]
)
def test_no_items(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "items.jsonl"
    path.write_bytes(content)
    assert message in error(path)


def test_missing_file_and_folder_are_told_at_the_call(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.jsonl is not there: check the path"):
        read_items(tmp_path / "no.jsonl")
    with pytest.raises(DataError, match=r"is a folder: name one file in it"):
        read_items(tmp_path)


def test_a_link_in_a_circle_is_told(tmp_path: Path) -> None:
    path = tmp_path / "loop.jsonl"
    path.symlink_to(path)
    assert "is not there" in error(path)


def test_memory_does_not_grow_with_the_items(tmp_path: Path) -> None:
    """20 MB of items pass through less than 4 MB of memory."""
    path = tmp_path / "items.jsonl"
    with path.open("w") as file:
        for number in range(2_000):
            file.write(line(item_id=str(number), context="word " * 2_000) + "\n")
    tracemalloc.start()
    count = sum(1 for _ in read_items(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 2_000
    assert peak < 4_000_000


def failing() -> Iterator[Item]:
    yield Item(item_id="a", prompt="p")
    raise KeyboardInterrupt


def test_a_stopped_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_items(path, failing())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (
            [Item(item_id="a", prompt="p"), Item(item_id="a", prompt="q")],
            "two items have the item_id 'a'",
        ),
        ([], "there are no items to write"),
        ([Item(item_id="a", prompt="p", meta={"x": "\ud83d"})], "'a' cannot be written"),
        ([Item(item_id="a", prompt="p", meta={"x": float("nan")})], "'a' cannot be written"),
        ([Item(item_id="a", prompt="p", meta={"x": {1}})], "'a' cannot be written"),
    ],
)
def test_what_is_not_written(tmp_path: Path, items: list[Item], message: str) -> None:
    with pytest.raises(DataError, match=message):
        write_items(tmp_path / "items.jsonl", items)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_items(tmp_path / "file" / "items.jsonl", [Item(item_id="a", prompt="p")])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(line())
    path.chmod(0)
    assert "cannot be read" in error(path)
