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
    if prompting == "personalized" and item.context.strip():
        return _fill(template("personalized"), prompt=item.prompt, context=item.context)
    return _fill(template("default"), prompt=item.prompt)


@cache
def template(prompting: Prompting) -> str:
    """Return the text of a query template."""
    path = resources.files(__package__) / "prompts" / f"query_{prompting}.txt"
    return path.read_text(encoding="utf-8").strip()


def query_hash() -> str:
    """Return the digest of both templates, for signatures."""
    return digest([template("personalized"), template("default")])


def _fill(text: str, **fields: str) -> str:
    # One pass over the template: a slot's name inside a filled text is not filled again.
    return text.format_map(fields)
