"""The published rows of Community Alignment, PRISM and Multifaceted-Bench, checked and cleaned.

What cannot be used is not lost from sight: it comes out as `Dropped` with a reason.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mipo_eval.errors import DataError
from mipo_eval.keys import item_rng
from mipo_eval.records import Rubric, Text
from mipo_eval.tasks.items import explain

Row = Mapping[str, Any]
Turns = Literal["first", "all"]


class Dropped(NamedTuple):
    """A row, or a turn of one, that gives no item."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UserChoice:
    """One user turn with the response the user chose and one they did not."""

    source_id: str
    """Conversation and turn."""
    user_id: str
    prompt: str
    """With the conversation before it, for turns after the first."""
    chosen: str
    rejected: str
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One row of Multifaceted-Bench."""

    prompt: str
    system: str
    """Describes one person's preferences in four dimensions, woven into one text."""
    reference: str
    rubrics: tuple[Rubric, ...]
    """One per dimension, in the order of `DIMENSIONS`."""
    source: str


DIMENSIONS = ("style", "background_knowledge", "informativeness", "harmlessness")

_TURNS = ("first", "second", "third", "fourth")
_LETTERS = "abcd"


def _text(value: object) -> str:
    """Return a cell as text, empty for null, NaN and the words that stand for them in CSV."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = str(value).replace("<|end_of_text|>", "").strip()
    return "" if text.lower() in {"nan", "none", "null"} else text


def ca_choices(
    rows: Iterable[Row],
    where: str,
    *,
    turns: Turns = "first",
    languages: frozenset[str] = frozenset({"en"}),
    seed: int = 0,
) -> Iterator[UserChoice | Dropped]:
    """Yield the choices of Community Alignment.

    A row is a conversation of up to four turns, with four responses each, e.g.
    {"conversation_id": 7, "annotator_id": 3, "assigned_lang": "en", "first_turn_prompt": "...",
     "first_turn_response_a": "...", ..., "first_turn_preferred_response": "response_b"}

    Args:
        rows: as published.
        where: file or data set, opening every message.
        turns: only the opening turn, or all; later ones carry the conversation before them.
        languages: of the conversations to keep.
        seed: of the draw of a rejected response among the three.

    Raises:
        DataError: a column is missing.
    """
    wanted = _TURNS[:1] if turns == "first" else _TURNS
    for number, row in enumerate(rows, start=1):
        _need_columns(row, _ca_columns(), f"{where}, row {number}")
        if (language := _text(row["assigned_lang"])) not in languages:
            yield Dropped(f"language {language or 'unknown'}")
            continue
        history: list[tuple[str, str]] = []
        for index, turn in enumerate(wanted):
            if not (prompt := _text(row.get(f"{turn}_turn_prompt"))):
                if index == 0:
                    yield Dropped("no prompt")
                break
            found = _ca_turn(row, turn, f"{_text(row['conversation_id'])}-{index}", seed)
            if isinstance(found, Dropped):
                yield found
                break
            chosen, rejected = found
            yield UserChoice(
                source_id=f"{_text(row['conversation_id'])}-{index}",
                user_id=_text(row["annotator_id"]),
                prompt=with_history(history, prompt),
                chosen=chosen,
                rejected=rejected,
                meta={"language": language, "turn": index},
            )
            history.append((prompt, chosen))


def _ca_columns() -> list[str]:
    responses = [f"first_turn_response_{letter}" for letter in _LETTERS]
    ids = ["conversation_id", "annotator_id", "assigned_lang", "first_turn_prompt"]
    return [*ids, *responses, "first_turn_preferred_response"]


def _ca_turn(row: Row, turn: str, source_id: str, seed: int) -> tuple[str, str] | Dropped:
    """Return the chosen response of a turn and one of the others."""
    responses = {
        f"response_{letter}": _text(row.get(f"{turn}_turn_response_{letter}"))
        for letter in _LETTERS
    }
    preferred = _text(row.get(f"{turn}_turn_preferred_response"))
    if not preferred:
        return Dropped("no preferred response")
    if not responses.get(preferred):
        return Dropped("the preferred response is none of the four, or empty")
    chosen = responses[preferred]
    others = sorted({text for text in responses.values() if text and text != chosen})
    if not others:
        return Dropped("all responses are the same")
    return chosen, item_rng(seed, "ca-rejected", source_id).choice(others)


class _Utterance(BaseModel):
    """One row of PRISM's `utterances.jsonl`: a message, one response to it, a score."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    utterance_id: str
    interaction_id: str
    conversation_id: str
    user_id: Text
    turn: int = Field(ge=0)
    user_prompt: str
    model_response: str
    score: int
    if_chosen: bool


def prism_choices(
    rows: Iterable[Row], where: str, *, turns: Turns = "first"
) -> Iterator[UserChoice | Dropped]:
    """Yield the choices of PRISM, in the order of the conversations in the file.

    Rows are the long format: one per response, up to four in the opening turn, e.g.
    {"utterance_id": "ut1", "interaction_id": "int0", "conversation_id": "c0", "user_id": "user0",
     "turn": 0, "user_prompt": "...", "model_response": "...", "score": 92, "if_chosen": true}
    The rejected response is the one with the lowest score: the clearest statement of a preference.

    Args:
        rows: as published.
        where: file or data set, opening every message.
        turns: only the opening turn, or all; later ones carry the conversation before them.

    Raises:
        DataError: a column is missing or of another type.
    """
    conversations: defaultdict[str, defaultdict[int, list[_Utterance]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for number, row in enumerate(rows, start=1):
        try:
            utterance = _Utterance.model_validate(row)
        except ValidationError as error:
            problem = explain(error.errors(include_url=False)[0])
            raise DataError(
                f"{where}, row {number}, {problem}; expected the columns of "
                "PRISM's utterances.jsonl"
            ) from None
        conversations[utterance.conversation_id][utterance.turn].append(utterance)
    for conversation_id, by_turn in conversations.items():
        history: list[tuple[str, str]] = []
        for turn, utterances in sorted(by_turn.items())[: 1 if turns == "first" else None]:
            found = _prism_turn(utterances)
            if isinstance(found, Dropped):
                yield found
                break
            chosen, rejected = found
            yield UserChoice(
                source_id=f"{conversation_id}-{turn}",
                user_id=chosen.user_id,
                prompt=with_history(history, chosen.user_prompt.strip()),
                chosen=chosen.model_response.strip(),
                rejected=rejected.model_response.strip(),
                meta={
                    "language": "en",
                    "turn": turn,
                    "chosen_score": chosen.score,
                    "rejected_score": rejected.score,
                },
            )
            history.append((chosen.user_prompt.strip(), chosen.model_response.strip()))


def _prism_turn(utterances: list[_Utterance]) -> tuple[_Utterance, _Utterance] | Dropped:
    """Return the chosen and the lowest-scored response of a turn."""
    if not utterances[0].user_prompt.strip():
        return Dropped("no prompt")
    # The code book: an empty response is stored as these two words.
    said = [u for u in utterances if u.model_response.strip() not in {"", "EMPTY STRING"}]
    chosen = next((u for u in said if u.if_chosen), None)
    if chosen is None:
        return Dropped("no preferred response")
    rejected = min(said, key=lambda u: (u.score, u.utterance_id))
    if rejected.score >= chosen.score:
        return Dropped("no response has a lower score")
    if rejected.model_response.strip() == chosen.model_response.strip():
        return Dropped("all responses are the same")
    return chosen, rejected


class _MbRubric(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    criteria: Text
    score_descriptions: dict[int, Text]


class _MbRow(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt: Text
    system: Text
    reference_answer: Text
    rubric: tuple[_MbRubric, ...]
    source: str = ""


def mb_instructions(rows: Iterable[Row], where: str) -> Iterator[Instruction | Dropped]:
    """Yield the instructions of Multifaceted-Bench.

    A row is {"source": ..., "system": ..., "prompt": ..., "reference_answer": ..., "rubric":
    [{"criteria": ..., "score_descriptions": {"1": ..., ..., "5": ...}}, four of them]}. Its system
    message describes the preferences and each rubric checks one of them.

    Raises:
        DataError: a column is missing or of another type.
    """
    seen: set[tuple[str, str]] = set()
    for number, row in enumerate(rows, start=1):
        # The hub's copy names the column "rubrics", the repository's description "rubric".
        renamed = {**row, "rubric": row["rubrics"]} if "rubrics" in row else row
        try:
            parsed = _MbRow.model_validate(renamed)
        except ValidationError as error:
            problem = explain(error.errors(include_url=False)[0])
            expected = ", ".join(_MbRow.model_fields)
            raise DataError(
                f"{where}, row {number}, {problem}; expected the columns {expected}"
            ) from None
        if len(parsed.rubric) != len(DIMENSIONS):
            yield Dropped(f"{len(parsed.rubric)} rubrics instead of {len(DIMENSIONS)}")
        elif (parsed.system, parsed.prompt) in seen:
            yield Dropped("repeated row")
        else:
            seen.add((parsed.system, parsed.prompt))
            yield Instruction(
                # Some prompts of the set hold a written-out "\n" where a line break is meant.
                prompt=parsed.prompt.replace("\\n", "\n"),
                system=parsed.system,
                reference=parsed.reference_answer,
                rubrics=tuple(
                    Rubric(criterion=r.criteria, scores=r.score_descriptions) for r in parsed.rubric
                ),
                source=parsed.source,
            )


def with_history(history: list[tuple[str, str]], prompt: str) -> str:
    """Return a prompt with the turns before it; the first prompt alone stays as it is."""
    if not history:
        return prompt
    turns = [f"User: {said}\n\nAssistant: {answer}" for said, answer in history]
    return "\n\n".join([*turns, f"User: {prompt}"])


def _need_columns(row: Row, columns: Iterable[str], where: str) -> None:
    if missing := [name for name in columns if name not in row]:
        raise DataError(
            f"{where}: the column {missing[0]} is missing; expected {', '.join(columns)}"
        )
