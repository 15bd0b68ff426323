"""What a model is asked: an item's conversation, whose last user turn is the query.

The query is the item's prompt, with or without the user's context, as a wording has it
(`wordings.py`). Before it stand the item's earlier turns as they are; a system prompt changes
nothing about it, under either prompting.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Literal

from mipo_eval.errors import ConfigError
from mipo_eval.models.base import Message
from mipo_eval.records import Item, PastTurn
from mipo_eval.tasks.wordings import Wording, read_wording, usual

Prompting = Literal["personalized", "default"]
_FILES = (".txt", ".md", ".jinja")
USUAL = read_wording(usual("query"), "query")


def render_query(item: Item, prompting: Prompting, wording: Wording = USUAL) -> str:
    """Return the user turn for an item.

    Personalized prompting of an item without context is its default prompting.
    """
    # One pass over the text: a slot's name inside a filled text is not filled again.
    personal = prompting == "personalized" and item.context.strip()
    own = wording.of(item)
    text = own.user if personal else own.default
    return text.format(prompt=item.prompt, context=item.context)


def render_system(item: Item, prompting: Prompting, wording: Wording = USUAL) -> str:
    """Return what a wording puts into the system turn for an item; "" for nothing."""
    personal = prompting == "personalized" and item.context.strip()
    own = wording.of(item)
    text = own.system if personal else own.default_system
    return text.format(prompt=item.prompt, context=item.context)


def conversation(
    item: Item, prompting: Prompting, system: str = "", wording: Wording = USUAL
) -> tuple[Message, ...]:
    """Return all turns an item is asked with; the last one is the query.

    A system prompt stands before the wording's, and that before the item's own, in the same turn.
    """
    told = joined_system(system, render_system(item, prompting, wording))
    return turns_to(render_query(item, prompting, wording), item.messages, told)


def joined_system(*texts: str) -> str:
    """Return system prompts as one."""
    return "\n\n".join(text for text in texts if text)


def turns_to(query: str, earlier: Sequence[PastTurn] = (), system: str = "") -> tuple[Message, ...]:
    """Return a conversation that ends with a query.

    Turns of one role in a row become one, which many chat templates and servers ask for.
    """
    said = [("system", system)] if system else []
    said += [(turn.role, turn.content) for turn in earlier]
    said.append(("user", query))
    return tuple(
        Message(role=role, content="\n\n".join(content for _, content in turns))
        for role, turns in groupby(said, key=lambda turn: turn[0])
    )


def as_dicts(messages: Iterable[Message]) -> list[dict[str, str]]:
    """Return a conversation as chat templates, servers and trainers take it."""
    return [{"role": message.role, "content": message.content} for message in messages]


def read_system(given: str) -> str:
    """Return the system prompt that a user gives, as a text or as the file that holds it.

    Raises:
        ConfigError: the file cannot be read, or there is nothing in it.
    """
    is_file = "\n" not in given and len(given) < 1_000 and Path(given).is_file()
    text = given
    if is_file or (given.endswith(_FILES) and " " not in given):
        try:
            text = Path(given).read_text(encoding="utf-8-sig")
        except OSError as error:
            raise ConfigError(f"system prompt {given} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"system prompt {given} is not UTF-8: save the file as UTF-8"
            ) from error
    if not text.strip():
        raise ConfigError(f"system prompt {given!r} is empty: leave it out or give a text")
    return text.strip()
