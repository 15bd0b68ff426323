import json
from pathlib import Path

import pytest

from mipo_eval import settings
from mipo_eval.errors import ConfigError, DataError
from mipo_eval.records import Item
from mipo_eval.tasks.datasets.prefeval import Turn, render_conversation
from mipo_eval.tasks.items import write_items
from mipo_eval.tasks.sources import load_source

PSOUPS = {
    "prompt": "Why is the sky blue?",
    "chosen": "Air bends blue light most.",
    "rejected": "Rayleigh scattering.",
    "ground_truth_persona": "Answer for a child of six.",
    "profile": "Young, Likes science",
    "Pair-wise Comparative Feedback": [],
}
PREFEVAL = {
    "preference": "I never fly.",
    "question": "How do I get to Rome?",
    "explanation": "Most answers name a flight.",
}
CONVERSATION = {
    "10": {"user": "And trains?", "assistant": "Many."},
    "2": {"user": "Planes frighten me.", "assistant": "I see."},
}


def put(path: Path, rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))
    return path


def load(name: str, data: Path) -> list[Item]:
    return list(load_source(name, data))


def test_psoups_row_to_item(tmp_path: Path) -> None:
    put(tmp_path / "psoups" / "child.json", [PSOUPS, PSOUPS | {"chosen": "Because."}, PSOUPS])
    first, other, repeat = load("psoups", tmp_path)
    assert first.prompt == "Why is the sky blue?"
    assert first.context == "Answer for a child of six."
    assert first.preferences == ("Answer for a child of six.",)
    assert first.reference == "Air bends blue light most."
    assert first.user_id is None
    assert first.meta == {"rejected": "Rayleigh scattering.", "profile": "Young, Likes science"}
    assert first.group_id == other.group_id
    assert repeat.item_id == first.item_id + "-2"
    assert len({first.item_id, other.item_id, repeat.item_id}) == 3


def test_an_id_does_not_depend_on_the_rows_place(tmp_path: Path) -> None:
    other = PSOUPS | {"prompt": "Why is grass green?"}
    put(tmp_path / "a" / "psoups" / "child.json", [PSOUPS, other])
    put(tmp_path / "b" / "psoups" / "child.json", [other, PSOUPS])
    assert load("psoups", tmp_path / "a") == load("psoups", tmp_path / "b")[::-1]


def test_prefeval_forms(tmp_path: Path) -> None:
    implicit = PREFEVAL | {"persona": "a nurse", "conversation": CONVERSATION}
    folder = tmp_path / "prefeval"
    put(folder / "explicit_preference" / "trips.json", [PREFEVAL])
    put(folder / "implicit_preference" / "persona-driven" / "trips.json", [implicit])
    explicit_item, implicit_item = load("prefeval", tmp_path)
    assert explicit_item.context == "I never fly."
    assert implicit_item.context == (
        "User: Planes frighten me.\n\nAssistant: I see.\n\nUser: And trains?\n\nAssistant: Many."
    )
    for item, form in ((explicit_item, "explicit"), (implicit_item, "implicit")):
        assert item.prompt == "How do I get to Rome?"
        assert item.preferences == ("I never fly.",)
        assert item.reference is None
        assert (item.meta["topic"], item.meta["form"]) == ("trips", form)
    assert explicit_item.group_id == implicit_item.group_id
    assert load("prefeval_explicit", tmp_path) == [explicit_item]
    assert load("prefeval_implicit", tmp_path) == [implicit_item]
    [held] = load("prefeval_conversation", tmp_path)
    assert held.transcript == f"{implicit_item.context}\n\nUser: How do I get to Rome?"
    assert [turn.role for turn in held.messages] == ["user", "assistant"] * 2
    assert (held.context, held.preferences) == ("", ("I never fly.",))
    assert held.group_id == implicit_item.group_id
    assert held.item_id not in {explicit_item.item_id, implicit_item.item_id}


def test_turns_are_ordered_by_number_not_by_text() -> None:
    turns = {number: Turn(user=str(number), assistant="-") for number in (10, 9, 0)}
    assert [part for part in render_conversation(turns).split() if part.isdigit()] == [
        "0",
        "9",
        "10",
    ]
    assert not render_conversation({})


def test_a_prepared_file_comes_before_raw_ones(tmp_path: Path) -> None:
    put(tmp_path / "psoups" / "child.json", [PSOUPS])
    prepared = [Item(item_id="x", prompt="prepared")]
    write_items(tmp_path / "psoups-test.jsonl", prepared)
    assert load("psoups", tmp_path) == prepared


@pytest.mark.parametrize("name", ["ca", "prism", "mb"])
def test_prepared_sources(tmp_path: Path, name: str) -> None:
    for split in ("train", "test"):
        with pytest.raises(DataError) as caught:
            load_source(name, tmp_path, split)  # type: ignore[arg-type]
        path = tmp_path / f"{name}-{split}.jsonl"
        assert str(caught.value) == (
            f"{path} is missing: make it with `mipo-eval data prepare {name}`"
        )
        items = [Item(item_id=split, prompt="p")]
        write_items(path, items)
        assert list(load_source(name, tmp_path, split)) == items  # type: ignore[arg-type]


def test_missing_raw_files_say_where_they_were_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_source("psoups", tmp_path)
    for part in ("psoups-test.jsonl", "psoups_alignx/*.json", "psoups/*.json", settings.DATA):
        assert part in str(caught.value)
    with pytest.raises(DataError, match="prefeval has no training items of its own"):
        load_source("prefeval", tmp_path, "train")


def test_the_data_folder_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.DATA, str(tmp_path))
    put(tmp_path / "psoups" / "child.json", [PSOUPS])
    assert len(list(load_source("psoups"))) == 1


def test_a_file_is_a_source_and_other_names_are_listed(tmp_path: Path) -> None:
    items = [Item(item_id="x", prompt="p")]
    write_items(tmp_path / "mine.jsonl", items)
    assert list(load_source(str(tmp_path / "mine.jsonl"))) == items
    with pytest.raises(
        ConfigError, match=r"unknown data set 'cs'; known: demo, everyday, ca, .*FILE\.jsonl"
    ):
        load_source("cs")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"rows": []}, "field prompt: is missing"),
        (
            [PSOUPS, {"prompt": "x"}],
            "row 2, field chosen: is missing; add it; expected",
        ),
        ([PSOUPS | {"chosen": ""}], "row 1, field chosen: is blank"),
        (["text"], 'row 1: is "text", not a JSON object'),
    ],
)
def test_schema_drift_is_told(tmp_path: Path, rows: object, message: str) -> None:
    path = put(tmp_path / "psoups" / "child.json", rows)
    with pytest.raises(DataError) as caught:
        load("psoups", tmp_path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"), [(b"{", "line 1: is not JSON"), (b"\xff\xfe", "is UTF-16 or")]
)
def test_a_raw_file_that_is_no_json(tmp_path: Path, content: bytes, message: str) -> None:
    put(tmp_path / "psoups" / "child.json", []).write_bytes(content)
    with pytest.raises(DataError, match=rf"child\.json.*{message}"):
        load("psoups", tmp_path)


def test_real_psoups(shared_data: Path) -> None:
    items = load("psoups", shared_data)
    assert len(items) == 600
    assert len({item.item_id for item in items}) == 600
    assert len({item.group_id for item in items}) == 211  # distinct prompts
    assert all(item.reference and item.meta["rejected"] for item in items)


def test_real_prefeval(shared_data: Path) -> None:
    items = load("prefeval", shared_data)
    held = load("prefeval_conversation", shared_data)
    implicit = [item for item in items if item.meta["form"] == "implicit"]
    assert [(i.prompt, i.preferences) for i in held] == [
        (i.prompt, i.preferences) for i in implicit
    ]
    assert all(
        item.transcript.startswith(f"{told.context}\n\nUser: ")
        for item, told in zip(held, implicit, strict=True)
    )
    forms = [item.meta["form"] for item in items]
    assert (forms.count("explicit"), forms.count("implicit")) == (505, 257)
    assert len({item.item_id for item in items}) == 762
    implicit = [item for item in items if item.meta["form"] == "implicit"]
    assert all(item.context.startswith("User: ") for item in implicit)


def test_real_items_survive_a_file(shared_data: Path, tmp_path: Path) -> None:
    items = load("psoups", shared_data) + load("prefeval", shared_data)
    write_items(tmp_path / "all.jsonl", items)
    assert list(load_source(str(tmp_path / "all.jsonl"))) == items
