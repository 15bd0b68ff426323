"""Community Alignment: conversations of up to four turns, with four responses each.

A row is {"conversation_id": 7, "annotator_id": 3, "assigned_lang": "en", "first_turn_prompt":
"...", "first_turn_response_a": "...", ..., "first_turn_preferred_response": "response_b", ...};
the opening turn is used. The rejected response is drawn among the other three.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import BeforeValidator

from mipo_eval.keys import item_rng
from mipo_eval.tasks.datasets import (
    Columns,
    Dropped,
    RawSet,
    Row,
    UserChoice,
    checked,
    parse_preferences,
)


def _text(value: object) -> str:
    """Return a cell as text, empty for null, NaN and the words that stand for them in CSV."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = str(value).replace("<|end_of_text|>", "").strip()
    return "" if text.lower() in {"nan", "none", "null"} else text


_Cell = Annotated[str, BeforeValidator(_text)]


class _Conversation(Columns):
    conversation_id: _Cell
    annotator_id: _Cell
    assigned_lang: _Cell
    first_turn_prompt: _Cell
    first_turn_response_a: _Cell
    first_turn_response_b: _Cell
    first_turn_response_c: _Cell
    first_turn_response_d: _Cell
    first_turn_preferred_response: _Cell


def ca_choices(rows: Iterable[Row], where: str, seed: int = 0) -> Iterator[UserChoice | Dropped]:
    """Yield the choices of English conversations; `seed` draws the rejected response.

    Raises:
        DataError: a column is missing.
    """
    for _, row in checked(_Conversation, rows, where):
        yield _choice(row, seed)


def _choice(row: _Conversation, seed: int) -> UserChoice | Dropped:
    four = (f"response_{letter}" for letter in "abcd")
    responses: dict[str, str] = {name: getattr(row, f"first_turn_{name}") for name in four}
    if row.assigned_lang != "en":
        return Dropped(f"language {row.assigned_lang or 'unknown'}")
    if not row.first_turn_prompt:
        return Dropped("no prompt")
    if not row.first_turn_preferred_response:
        return Dropped("no preferred response")
    if not (chosen := responses.get(row.first_turn_preferred_response)):
        return Dropped("the preferred response is none of the four, or empty")
    others = sorted({text for text in responses.values() if text and text != chosen})
    if not others:
        return Dropped("all responses are the same")
    source_id = f"{row.conversation_id}-0"
    return UserChoice(
        data_set="ca",
        source_id=source_id,
        user_id=row.annotator_id,
        prompt=row.first_turn_prompt,
        chosen=chosen,
        rejected=item_rng(seed, "ca-rejected", source_id).choice(others),
        meta={"language": "en", "turn": 0},
    )


CA = RawSet(
    hub="facebook/community-alignment-dataset",
    revision="97343c7f6399fcbea430ed0f37c1768281a78d56",
    files={"train": ("community_alignment*.csv", "community_alignment*.parquet", "*.jsonl")},
    candidates=ca_choices,
    parse=parse_preferences,
    paper_sizes=(6_564, 200),
)
