"""Control entrants: texts that must not do well, judged like responses.

    mismatched   the response that another user got, judged by this user's preferences
    generic      a polite answer that fits every question and no user
    echo         the user's own context, given back
    reference    the reference response itself: all ties, the scale's fixed point

A judge under which the first three do as well as the model measures something else.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mipo_eval.keys import item_rng
from mipo_eval.records import Score
from mipo_eval.store.responses import Answered

CONTROLS = ("mismatched", "generic", "echo", "reference")

GENERIC = (
    "That is a good question, and there is more than one way to go about it. It depends on what "
    "matters most to you, so take your time and choose what fits your situation."
)


class WinningControl(NamedTuple):
    """A control that a judge rates as high as the model."""

    task: str
    judge: str
    control: str
    rating: float
    """Mean, 1-5."""
    own: float
    """The model's."""

    def __str__(self) -> str:
        return (
            f"broken: control {self.control} does as well as the model in {self.task} "
            f"({self.rating:.2f} and {self.own:.2f} by {self.judge}): this judge does not tell "
            "them apart"
        )


def winners(scores: Iterable[Score]) -> list[WinningControl]:
    """Return the controls that do as well as the model where they must not, of one run."""
    rated = {
        (score.task, score.judge or "", score.control): value
        for score in scores
        if score.metric == "rating_mean" and (value := score.value) is not None
    }
    return [
        WinningControl(task, judge, control, value, own)
        for (task, judge, control), value in rated.items()
        if control is not None
        and control != "reference"
        and (own := rated.get((task, judge, None))) is not None
        and value >= own
    ]


def control_texts(control: str, entries: Sequence[Answered], *, seed: int) -> list[str | None]:
    """Return the control's text for every item, in order; None where it has none.

    Args:
        control: one of `CONTROLS`.
        entries: the items of one task with the model's responses.
        seed: of the draw of other users; the same item draws the same one in any order.
    """
    if control == "generic":
        return [GENERIC for _ in entries]
    if control == "echo":
        return [entry.item.context.strip() or None for entry in entries]
    if control == "reference":
        return [entry.item.reference or None for entry in entries]
    asked: dict[str, list[Answered]] = defaultdict(list)
    for entry in entries:
        asked[entry.item.group].append(entry)
    return [_of_another_user(entry, asked[entry.item.group], seed) for entry in entries]


def _of_another_user(entry: Answered, same_prompt: Sequence[Answered], seed: int) -> str | None:
    """Return a response that was made to the same prompt for another context."""
    # In the order of their items' keys: what is drawn must not depend on the suite's order.
    others = [
        other.response.text
        for other in sorted(same_prompt, key=lambda other: other.item.key)
        if other.item.context != entry.item.context
        if other.response is not None and other.response.text
    ]
    if not others:
        return None
    return item_rng(seed, "mismatched", entry.item.key).choice(others)
