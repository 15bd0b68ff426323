"""Anything at all, read by everything that reads: a value of its kind, or one error of its kind.

`SOAK=100 pytest tests/faults/test_anything.py` tries a hundred times as much.
"""

import copy
import io
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mipo_eval.errors import ConfigError, DataError, MipoEvalError
from mipo_eval.importers import read_path, store_runs
from mipo_eval.judges.judge import read_rating, read_verdict
from mipo_eval.judges.parse import parse_rating, parse_verdict, weighted_rating
from mipo_eval.judges.presets import Preset, load_judge
from mipo_eval.models.base import Reply
from mipo_eval.models.openai import read_completion
from mipo_eval.models.server import Trouble
from mipo_eval.models.thinking import take_apart
from mipo_eval.models.told import retry_after
from mipo_eval.records import Item
from mipo_eval.settings import parse_yaml
from mipo_eval.store import Store
from mipo_eval.tasks.answers import extract_choice, extract_number
from mipo_eval.tasks.datasets import parse_preferences
from mipo_eval.tasks.items import read_items
from mipo_eval.training.recipes import Recipe, load_recipe
from tests.faults.test_linear import TOKENS
from tests.laws import tries

CASES = Path(__file__).parents[1] / "cases" / "imports"


def outcome(read: Callable[[], Any], kind: type[Exception]) -> Any:
    """Return what is read, or the error that reading it is allowed to be."""
    try:
        return read()
    except kind as error:
        return error


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**23, -(2**63), 10**400])
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["", "a\x00b", "\ud800", "many", "9" * 20, "../x", "a|b", "<think>", "{"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)
prose = st.lists(st.sampled_from(TOKENS) | st.text(max_size=4), max_size=25).map("".join)
spaced = st.lists(st.sampled_from(TOKENS), max_size=25).map(" ".join)
replies = prose | spaced | st.text(max_size=60) | values.map(lambda v: json.dumps(v, default=str))


@tries(400)
@given(replies, st.booleans())
def test_a_reply_is_an_answer_or_none(reply: str, cut: bool) -> None:
    rating, verdict = parse_rating(reply, cut=cut), parse_verdict(reply, cut=cut)
    assert rating is None or (type(rating) is int and 1 <= rating <= 5)
    assert verdict in {None, "a", "b", "tie"}
    for found, reason in (
        read_rating(reply, cut=cut),
        read_verdict("pairwise-tie", reply, swapped=False, cut=cut),
    ):
        assert (found is None) == (reason is not None)
    number = extract_number(reply)
    assert number is None or (isinstance(number, Decimal) and number.is_finite())
    assert extract_choice(reply) in {None, *"ABCD"}
    parts = take_apart(reply)
    assert parts.response is None or parts.response.strip() in reply


@tries(200)
@given(replies)
def test_preferences_are_read_or_refused_in_words(reply: str) -> None:
    found = outcome(lambda: parse_preferences(reply), ValueError)
    assert str(found) if isinstance(found, ValueError) else found


@tries(200)
@given(st.lists(st.tuples(st.text(max_size=5) | st.just("9" * 5000), st.floats()), max_size=6))
def test_a_weighted_rating_lies_on_the_scale(pairs: list[tuple[str, float]]) -> None:
    found = weighted_rating(pairs)
    assert found is None or 1 <= found <= 5


@tries(300)
@given(st.binary(max_size=60) | values.map(lambda v: json.dumps(v).encode()))
def test_a_body_is_a_reply_or_trouble(body: bytes) -> None:
    found = outcome(lambda: read_completion(body), Trouble)
    assert isinstance(found, Reply) or found.detail


@tries(200)
@given(st.text(max_size=30) | st.sampled_from(["Mon, 01 Jan 99999999999 00:00:00 GMT", "1e999"]))
def test_a_pause_is_some_seconds_or_none(header: str) -> None:
    found = outcome(lambda: retry_after(header, 0.0), ValueError)
    if isinstance(found, ValueError):
        assert "asks to wait" in str(found)
    else:
        assert found is None or 0 <= found <= 300


def _rows_of(data: Any) -> bytes:
    return json.dumps(data).encode("utf-8", "surrogatepass")


GOOD = {
    "item_id": "i",
    "prompt": "Tea?",
    "context": "I am nine.",
    "preferences": ["Short.", "Kind."],
    "rubric": ["a", {"criterion": "b", "scores": {"1": "x", "5": "y"}}],
    "reference": "Yes.",
    "user_id": "u",
    "group_id": "g",
    "meta": {"kind": "number"},
}


def _ways(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for name, own in inside:
        yield (*way, name)
        if isinstance(own, dict | list):
            yield from _ways(own, (*way, name))


@st.composite
def changed(draw: st.DrawFn, good: Any) -> Any:
    """Draw what is like `good` but for one or two places."""
    made = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 2))):
        way = draw(st.sampled_from([*_ways(made)] or [()]))
        holder = made
        for name in way[:-1]:
            holder = holder[name]
        if way and draw(st.booleans()):
            holder[way[-1]] = draw(values)
        elif way:
            del holder[way[-1]]
    return made


@tries(300)
@given(changed(GOOD).map(_rows_of) | values.map(_rows_of) | st.binary(max_size=40))
def test_an_item_file_is_items_or_one_error(content: bytes) -> None:
    file = Path("items.jsonl")
    file.write_bytes(content)
    found = outcome(lambda: list(read_items(file)), DataError)
    if isinstance(found, DataError):
        assert "items.jsonl" in str(found)
        assert "\n" not in str(found)
    else:
        assert found
        assert all(item == Item.model_validate_json(item.model_dump_json()) for item in found)


def _cases() -> list[Path]:
    return sorted(file for file in CASES.glob("*.json*") if file.stat().st_size < 30_000)


@pytest.mark.parametrize("case", _cases(), ids=lambda file: file.name)
def test_a_file_of_another_tool_is_runs_or_one_error(case: Path, tmp_path: Path) -> None:
    text = case.read_text(encoding="utf-8")
    try:
        rows = [json.loads(text)]
        lines = False
    except ValueError:
        try:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            pytest.skip("is no JSON on purpose")
        lines = True

    @tries(25)
    @given(changed(rows))
    def check(made: list[Any]) -> None:
        file = tmp_path / case.name
        written = [_rows_of(row) for row in made]
        file.write_bytes(b"\n".join(written) if lines else (written or [b""])[0])
        imported = outcome(lambda: read_path(file), MipoEvalError)
        if isinstance(imported, MipoEvalError):
            assert str(imported)
            return
        with Store.open(str(tmp_path / "s.db")) as store:
            stored = outcome(lambda: store_runs(store, imported.runs), MipoEvalError)
        assert str(stored) if isinstance(stored, MipoEvalError) else len(stored)

    check()


PRESET = {
    "description": "x",
    "backend": "openai:m@http://127.0.0.1:1",
    "temperature": 0.0,
    "max_tokens": 16,
    "seed": 0,
    "logprobs": 2,
    "extra_body": {"a": 1},
    "chat_template_kwargs": {"b": True},
    "limits": {"concurrency": 4, "attempts": 2, "timeout": 3},
    "options": {},
    "protocol": "rubric",
}


def _as_yaml(value: Any) -> str:
    stream = io.StringIO()
    yaml.safe_dump(value, stream, allow_unicode=True)
    return stream.getvalue()


@tries(200)
@given(changed(PRESET).map(_as_yaml) | st.text(max_size=60) | prose)
def test_a_preset_is_a_judge_or_one_error(text: str) -> None:
    file = Path("mine.yaml")
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    found = outcome(lambda: load_judge("mine.yaml"), MipoEvalError)
    if isinstance(found, MipoEvalError):
        assert str(found)
    else:
        assert found.key
        assert json.dumps(dict(found.stored_spec), allow_nan=False)


@tries(300)
@given(st.text(max_size=60) | prose | values.map(_as_yaml))
def test_yaml_is_plain_data_or_one_error(text: str) -> None:
    found = outcome(lambda: parse_yaml(text), ValueError)
    assert not isinstance(found, ValueError) or "\n" not in str(found)


@tries(100)
@given(st.sampled_from(["lr", "epochs", "seed", "pairs.n_negatives", "settings.beta"]), prose)
def test_a_setting_of_a_recipe_is_taken_or_refused(name: str, value: str) -> None:
    asked = f"{name}={value}"
    found = outcome(lambda: load_recipe("mipo-missing", overrides=[asked]), ConfigError)
    assert isinstance(found, Recipe) or str(found)


def test_the_good_ones_are_good(tmp_path: Path) -> None:
    Path("mine.yaml").write_text(_as_yaml(PRESET), encoding="utf-8")
    assert Preset.model_validate(PRESET)
    assert load_judge("mine.yaml").key
    Path("items.jsonl").write_bytes(_rows_of(GOOD))
    assert len(list(read_items(Path("items.jsonl")))) == 1
    assert _cases()
