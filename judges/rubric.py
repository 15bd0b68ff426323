"""The rubric protocol: one rating per preference of an item (PAPER.md, Judging).

For each preference the judge sees the query, the response and that one preference, and answers
with a whole number from 1 to 5. The ratings of a response are added up and compared with the
reference response's sum; both have one rating per preference, so sums compare exactly as means do
and no rounding decides a tie.

A response with a missing rating is unscored, with the reason. Adding up the others would compare
two responses on different preferences, and would favour whichever response the judge could not
rate on the preference it served worst.
"""

from dataclasses import dataclass

from mipo_eval.errors import ConfigError
from mipo_eval.judges.judge import Judge
from mipo_eval.judges.parse import parse_rating
from mipo_eval.models import Message, Request
from mipo_eval.records import Item, Rubric, text_key

LOW, HIGH = 1, 5
RATING_CHOICES = tuple(str(rating) for rating in range(LOW, HIGH + 1))

RATING_SLOTS = frozenset({"query", "response", "preference"})
RATING_OPTIONAL_SLOTS = frozenset({"rubric"})

CALL_FAILED = "call failed"
"""How the reason of a rating begins whose call brought no reply."""
UNPARSED = "unparsable reply"
"""The reason of a rating whose reply gave no one answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingRequest(Request):
    """A request that knows which rating it asks for."""

    item_key: str
    text_key: str
    aspect: int
    """Index into the item's preferences."""


def rating_requests(judge: Judge, item: Item, text: str) -> tuple[RatingRequest, ...]:
    """Return one request per preference of `item`, about the response `text`.

    Raises:
        ConfigError: the item has a rubric, but the judge's prompt file has no slot to show it in.
    """
    if item.rubric and "rubric" not in judge.prompt.slots:
        raise ConfigError(
            f"item {item.item_id} has a rubric but prompt {judge.prompt.name} does not show it: "
            "add the slot {rubric} to the prompt file"
        )
    key = text_key(text)
    requests = []
    for aspect, preference in enumerate(item.preferences):
        slots = {"query": item.prompt, "response": text, "preference": preference}
        if "rubric" in judge.prompt.slots:
            slots["rubric"] = guide(item.rubric[aspect]) if item.rubric else ""
        requests.append(
            RatingRequest(
                messages=(Message(role="user", content=judge.prompt.render(slots)),),
                sampling=judge.sampling,
                choices=RATING_CHOICES if judge.constrained else None,
                slots=slots,
                item_key=item.key,
                text_key=key,
                aspect=aspect,
            )
        )
    return tuple(requests)


def guide(rubric: str | Rubric) -> str:
    """Return a rubric as the judge reads it: the criterion, then what each rating looks like."""
    if isinstance(rubric, str):
        return rubric
    scores = (f"{score}: {text}" for score, text in sorted(rubric.scores.items()))
    return "\n".join([rubric.criterion, *scores])


def read_rating(reply: str | None, status: str = "ok") -> tuple[int | None, str | None]:
    """Return the rating in a ledger call, or None and the reason.

    Args:
        reply: the raw reply, None when there is none.
        status: "ok", or the kind of failure.
    """
    if reply is None or status != "ok":
        return None, f"{CALL_FAILED}: {status}"
    rating = parse_rating(reply, LOW, HIGH)
    return rating, None if rating is not None else UNPARSED
