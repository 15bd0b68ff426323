"""PersonaMem: which of four responses fits a user who is known from earlier conversations.

A question (questions_32k.csv) is asked at one point of a long history of conversations with one
persona (shared_contexts_32k.jsonl, beside it). It is answered with a letter. Questions about one
persona depend on each other: that is the user they are resampled by.
"""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, TypeAdapter, ValidationError

from mipo_eval.errors import DataError
from mipo_eval.records import Item, PastTurn, Text, explain
from mipo_eval.rows import read_rows
from mipo_eval.tasks.answers import lettered
from mipo_eval.tasks.datasets import Columns, checked

FILES = "personamem/questions_{size}.csv"
"""Where the questions of a size are in the data folder."""
_ASKED = "Which of these responses to my last message suits me best?"
_TURNS = TypeAdapter(list[PastTurn])


class _Question(Columns):
    persona_id: str
    question_id: Text
    question_type: str
    topic: str
    user_question_or_message: Text
    correct_answer: Literal["(a)", "(b)", "(c)", "(d)"]
    all_options: Text
    """A list as Python writes it: ['(a) ...', '(b) ...', ...]."""
    shared_context_id: Text
    end_index_in_shared_context: int = Field(ge=0)


def personamem_items(path: Path) -> Iterator[Item]:
    """Yield an item per question of a file, each with the turns that came before it.

    Raises:
        DataError: the file of contexts is not beside it, or a row is not in the expected schema.
    """
    beside = path.with_name(path.name.replace("questions", "shared_contexts")).with_suffix(".jsonl")
    histories = _histories(beside)
    rows = read_rows(path)
    questions = checked(_Question, (row.data for row in rows), str(path))
    for number, (_, row) in enumerate(questions, start=1):
        where = f"{path}, row {number}"
        if row.shared_context_id not in histories:
            raise DataError(f"{where}: {beside} has no context {row.shared_context_id!r}")
        said = histories[row.shared_context_id][: row.end_index_in_shared_context]
        options = _options(row.all_options, where)
        asked = f"{row.user_question_or_message}\n\n{_ASKED}"
        gold = "abcd".index(row.correct_answer[1])
        if gold >= len(options):
            raise DataError(f"{where}: {row.correct_answer} is none of {len(options)} options")
        yield lettered(asked, options, gold, topic=row.topic, type=row.question_type).model_copy(
            update={
                "item_id": f"personamem-{row.question_id}",
                "user_id": f"persona-{row.persona_id}",
                "messages": said_in_turns(said),
            }
        )


def _histories(path: Path) -> dict[str, list[PastTurn]]:
    """Return the conversations of each persona, by the name of its context."""
    histories = {}
    for row in read_rows(path):
        for name, turns in row.data.items():
            try:
                histories[name] = _TURNS.validate_python(turns)
            except ValidationError as error:
                raise row.wrong(f"{name}: {explain(error)}") from None
    return histories


def _options(text: str, where: str) -> tuple[str, ...]:
    """Return the texts of the options, without their letters."""
    try:
        options = ast.literal_eval(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        options = None
    if not isinstance(options, list) or not all(isinstance(one, str) for one in options):
        raise DataError(f"{where}, field all_options: is no list of texts as Python writes one")
    for letter, option in zip("abcd", options, strict=False):
        if not option.startswith(f"({letter}) "):
            raise DataError(f"{where}, field all_options: {option[:40]!r} is not option ({letter})")
    return tuple(option[4:] for option in options)


def said_in_turns(said: Sequence[PastTurn]) -> tuple[PastTurn, ...]:
    """Return turns of which only the first may be a system prompt.

    Each later conversation opens with one, too: as in PersonaMem's own code for models that take
    none there, it is put before the turn that follows it.
    """
    turns: list[PastTurn] = []
    waiting = ""
    for turn in said:
        if turn.role == "system" and turns:
            waiting += f"[System]: {turn.content}\n"
        else:
            turns.append(turn.model_copy(update={"content": waiting + turn.content}))
            waiting = ""
    return tuple(turns)
