"""The user turn: an item's prompt, with or without the user's context, as a model is asked it.

The wording lives in `prompts/query_personalized.txt` and `prompts/query_default.txt` (PAPER.md,
"Query form": the question, a request for a short answer, then what the user wants).
"""

from functools import cache
from importlib import resources
from typing import Literal

from mipo_eval.keys import digest
from mipo_eval.records import Item

Prompting = Literal["personalized", "default"]


def render_query(item: Item, prompting: Prompting) -> str:
    """Return the user turn for an item.

    Personalized prompting of an item without context is its default prompting.
    """
    # One pass over the template: a slot's name inside a filled text is not filled again.
    if prompting == "personalized" and item.context.strip():
        text = template("query_personalized").strip()
        return text.format(prompt=item.prompt, context=item.context)
    return template("query_default").strip().format(prompt=item.prompt)


def query_hash() -> str:
    """Return the digest of both templates, for signatures."""
    return digest([template(f"query_{name}").strip() for name in ("personalized", "default")])


@cache
def template(name: str) -> str:
    """Return the text of one of our prompt files."""
    path = resources.files("mipo_eval.tasks") / "prompts" / f"{name}.txt"
    return path.read_text(encoding="utf-8")
