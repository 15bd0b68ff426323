"""Community Alignment: conversations of up to four turns, with four responses each.

A row is {"conversation_id": 7, "annotator_id": 3, "assigned_lang": "en", "first_turn_prompt":
"...", "first_turn_response_a": "...", ..., "first_turn_preferred_response": "response_b", ...};
the opening turn is used or, if asked for, all of them, each after the responses that were preferred
before it. The rejected response is drawn among the other three.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, create_model

from mipo_eval.keys import item_rng
from mipo_eval.tasks.datasets import (
    CUT_OFF,
    Columns,
    Dropped,
    Earlier,
    RawSet,
    Row,
    Turns,
    UserChoice,
    checked,
    parse_preferences,
    then,
)


def _text(value: object) -> str:
    """Return a cell as text, empty for null, NaN and the words that stand for them in CSV."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = str(value).replace("<|end_of_text|>", "").strip()
    return "" if text.lower() in {"nan", "none", "null"} else text


_Cell = Annotated[str, BeforeValidator(_text)]


TURNS = ("first", "second", "third", "fourth")
_LETTERS = tuple("abcd")
_PARTS = ("prompt", *(f"response_{letter}" for letter in _LETTERS), "preferred_response")


class _Row(Columns):
    conversation_id: _Cell
    annotator_id: _Cell
    assigned_lang: _Cell


# Later turns are optional: most conversations have fewer than four, and some copies only the first.
_CELLS: dict[str, Any] = {
    f"{turn}_turn_{part}": (_Cell, ... if turn == "first" else "")
    for turn in TURNS
    for part in _PARTS
}
_Conversation = create_model("_Conversation", __base__=_Row, **_CELLS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """One turn of a conversation."""

    number: int
    earlier: Earlier
    prompt: str
    responses: Mapping[str, str]
    preferred: str

    @property
    def chosen(self) -> str:
        """The response that was preferred; empty for none."""
        return self.responses.get(self.preferred, "")


def ca_choices(
    rows: Iterable[Row], where: str, seed: int = 0, turns: Turns = "first"
) -> Iterator[UserChoice | Dropped]:
    """Yield the choices of conversations, in whatever language; `seed` draws the rejected response.

    Raises:
        DataError: a column is missing.
    """
    for _, row in checked(_Conversation, rows, where):
        earlier: Earlier = ()
        for number in range(len(TURNS) if turns == "all" else 1):
            said = _turn(row, number, earlier)
            if number and not said.prompt:
                break
            yield _choice(row, said, seed)
            earlier = then(earlier, said.prompt, said.chosen)


def _turn(row: _Row, number: int, earlier: Earlier) -> _Said:
    named = {name: str(getattr(row, f"{TURNS[number]}_turn_{name}")) for name in _PARTS}
    return _Said(
        number=number,
        earlier=earlier,
        prompt=named.pop("prompt"),
        preferred=named.pop("preferred_response"),
        responses=named,
    )


def _choice(row: _Row, said: _Said, seed: int) -> UserChoice | Dropped:
    if not said.prompt or said.earlier is None:
        return Dropped(CUT_OFF if said.prompt else "no prompt")
    if not said.preferred:
        return Dropped("no preferred response")
    if not said.chosen:
        return Dropped("the preferred response is none of the four, or empty")
    others = sorted({text for text in said.responses.values() if text and text != said.chosen})
    if not others:
        return Dropped("all responses are the same")
    source_id = f"{row.conversation_id}-{said.number}"
    return UserChoice(
        data_set="ca",
        source_id=source_id,
        user_id=row.annotator_id,
        prompt=said.prompt,
        chosen=said.chosen,
        rejected=item_rng(seed, "ca-rejected", source_id).choice(others),
        language=row.assigned_lang.lower() or "unknown",
        meta={"turn": said.number},
        earlier=said.earlier,
    )


CA = RawSet(
    hub="facebook/community-alignment-dataset",
    revision="97343c7f6399fcbea430ed0f37c1768281a78d56",
    files={"train": ("community_alignment*.csv", "community_alignment*.parquet", "*.jsonl")},
    candidates=ca_choices,
    parse=parse_preferences,
    paper_sizes=(6_564, 200),
)
