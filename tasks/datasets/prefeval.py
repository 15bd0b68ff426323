"""PrefEval: questions whose usual answer collides with the user's preference; no references.

In the explicit form the preference is stated outright; in the implicit one it is said in passing in
an earlier conversation. Both forms of one question share a group, since it is the same question.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from mipo_eval.records import Item, Text
from mipo_eval.tasks.datasets import Columns, Row, checked, content_id, prompt_group

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
        yield Item(
            item_id=content_id(f"prefeval-{form}-{path.stem}", raw, seen),
            prompt=row.question,
            context=render_conversation(row.conversation or {}) or row.preference,
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
