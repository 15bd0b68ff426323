"""Grading a reply to a verifiable question: right, wrong, or without a readable answer."""

from decimal import Decimal
from typing import Literal

from mipo_eval.records import Item
from mipo_eval.tasks.extraction import extract_choice, extract_number
from mipo_eval.tasks.questions import LETTERS

Grade = Literal["right", "wrong", "unextracted"]

NEXT_QUESTION = "\nQ:"
"""Where a base model that was shown examples goes on to make up a question of its own."""


def grade(item: Item, reply: str) -> Grade:
    """Compare the final answer of a reply with the question's.

    Numbers are compared as numbers ("5.0" is 5). "unextracted" is no right answer, so it counts
    against accuracy; its rate is reported beside it, because it says how much of the loss is form.

    Raises:
        KeyError: the item is not a verifiable question (see `tasks.questions`).
    """
    kind = item.meta["kind"]
    answer = reply.partition(NEXT_QUESTION)[0]
    found: Decimal | str | None
    right: Decimal | str | None
    if kind == "number":
        found, right = extract_number(answer), Decimal(item.reference or "NaN")
    else:
        letters = LETTERS[: len(item.meta["choices"])]
        found, right = extract_choice(answer, letters), item.reference
    if found is None:
        return "unextracted"
    return "right" if found == right else "wrong"
