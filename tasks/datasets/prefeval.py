"""PrefEval: questions whose usual answer collides with the user's preference; no references.

In the explicit form the preference is stated outright; in the implicit one it is said in passing in
an earlier conversation, which is told the model as a text or held with it, turn by turn. All forms
of one question share a group, since it is the same question.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from mipo_eval.records import Item, Text
from mipo_eval.tasks.datasets import Columns, Row, checked, content_id, exchange, prompt_group

EXPLICIT = ("prefeval/explicit_preference/*.json",)
IMPLICIT = ("prefeval/implicit_preference/persona-driven/*.json",)
"""Where the files of each form are in the data folder."""


class Turn(Columns):
    """One exchange of an earlier conversation."""

    user: Text
    assistant: Text


class _Question(Columns):
    preference: Text
    question: Text
    explanation: str = ""
    persona: str = ""
    conversation: dict[int, Turn] | None = None
    """Turns by number, in the implicit form."""


def prefeval_items(path: Path, rows: Iterable[Row]) -> Iterator[Item]:
    """Yield an item per row of a file, explicit or implicit by its schema.

    Raises:
        DataError: a row is not in the expected schema.
    """
    seen: Counter[str] = Counter()
    for raw, row in checked(_Question, rows, str(path)):
        form = "explicit" if row.conversation is None else "implicit"
        item_id = content_id(f"prefeval-{form}-{path.stem}", raw, seen)
        context = render_conversation(row.conversation or {}) or row.preference
        yield _item(path, row, form).model_copy(update={"item_id": item_id, "context": context})


def prefeval_conversations(path: Path, rows: Iterable[Row]) -> Iterator[Item]:
    """Yield an item per row of an implicit file, asked at the end of its conversation.

    The same questions with the conversation as turns in place of a text about the user: under
    either prompting the preference has to be found in them.

    Raises:
        DataError: a row is not in the expected schema.
    """
    seen: Counter[str] = Counter()
    for raw, row in checked(_Question, rows, str(path)):
        turns = [turn for _, turn in sorted((row.conversation or {}).items())]
        item_id = content_id(f"prefeval-conversation-{path.stem}", raw, seen)
        messages = tuple(said for one in turns for said in exchange(one.user, one.assistant))
        update = {"item_id": item_id, "messages": messages}
        yield _item(path, row, "conversation").model_copy(update=update)


def _item(path: Path, row: _Question, form: str) -> Item:
    return Item(
        item_id=form,
        prompt=row.question,
        preferences=(row.preference,),
        group_id=prompt_group(row.question),
        meta={
            "topic": path.stem,
            "form": form,
            "explanation": row.explanation,
            "persona": row.persona,
        },
    )


def render_conversation(turns: dict[int, Turn]) -> str:
    """Return an earlier conversation as text, turns in their numbered order; empty for none."""
    return "\n\n".join(
        f"User: {turn.user}\n\nAssistant: {turn.assistant}" for _, turn in sorted(turns.items())
    )
