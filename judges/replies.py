"""What a judge said of one labelled pair: the material from which its quality is measured.

Raw replies of a judge to labelled pairs, collected elsewhere and read by our parsers.

A JSONL file, one reply per line. Of a judge that chooses, in which the first place is response_a:

    {"pair_id": "3", "shown_first": "first" | "second", "reply": "response_b"}

Of a judge that rates, one line for each response and preference (counted from 0; the default is 0):

    {"pair_id": "3", "response": "first" | "second", "preference": 0, "reply": "4"}

A reply may be null: the call failed. Pairs without a line have no verdict.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from mipo_eval.errors import DataError
from mipo_eval.judges.labelled import LabelledPair
from mipo_eval.judges.parse import parse_verdict
from mipo_eval.judges.rubric import UNPARSED, read_rating
from mipo_eval.judges.verdict import Verdict, merge_orders

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class PairReading:
    """What a judge said of one labelled pair; "a" is the first response, wherever it was shown."""

    label: Verdict
    straight: Verdict | None = None
    """With the first response in the first place; None when the reply gave no verdict."""
    swapped: Verdict | None = None
    """With the places exchanged; None also when that was not asked."""
    both_orders: bool = True
    """Whether the exchanged order was asked."""
    ratings: tuple[float | None, float | None] | None = None
    """Of the first and second response, for judges that rate; None for judges that choose.

    Where there are several preferences these are sums over them."""
    given: tuple[int, ...] = ()
    """Every single rating, where there are several preferences."""
    probability: float | None = None
    """Of the first response being the better one, from the probabilities of its ratings."""
    lengths: tuple[int, int] = (0, 0)
    """Characters of the first and second response."""
    group: str = ""
    subset: str = ""
    replies: int = 0
    """How many the judge was asked for, over orders, responses and preferences."""
    unread: tuple[str, ...] = ()
    """Why replies gave nothing: one reason for each that is missing or unreadable."""
    trouble: str = ""
    """What the first call that failed said, in full."""

    @classmethod
    def of(
        cls,
        pair: "LabelledPair",
        straight: Verdict | None,
        swapped: Verdict | None,
        *,
        both_orders: bool = True,
        ratings: tuple[float | None, float | None] | None = None,
    ) -> Self:
        """Return the reading of `pair`; its label, lengths and group come from there.

        Every rating or order is one reply; one without a verdict could not be read.
        """
        said = ratings or ((straight, swapped) if both_orders else (straight,))
        return cls(
            label=pair.label,
            straight=straight,
            swapped=swapped,
            both_orders=both_orders,
            ratings=ratings,
            lengths=(len(pair.first), len(pair.second)),
            group=pair.group or pair.pair_id,
            subset=pair.subset,
            replies=len(said),
            unread=(UNPARSED,) * said.count(None),
        )

    @property
    def verdict(self) -> Verdict | None:
        """The judge's one verdict: from its ratings, or from both orders, or from the one asked."""
        if self.ratings is not None:
            return _higher(*self.ratings)
        return merge_orders(self.straight, self.swapped) if self.both_orders else self.straight

    @property
    def flipped(self) -> bool:
        """Whether the two orders named different responses."""
        return self.both_orders and {self.straight, self.swapped} == {"a", "b"}

    @property
    def longer(self) -> Verdict:
        """Which response is longer."""
        return _higher(*self.lengths) or "tie"


def _higher(first: float | None, second: float | None) -> Verdict | None:
    if first is None or second is None:
        return None
    return "tie" if first == second else "a" if first > second else "b"


NO_REPLY = "no reply in the file"
_EXCHANGED: dict[Verdict, Verdict] = {"a": "b", "b": "a", "tie": "tie"}
Which = Literal["first", "second"]
Place = tuple[Which, int]
"""Which response stood first, or which one was rated on which preference."""


class StoredReply(BaseModel):
    """One line of a file of replies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pair_id: str
    reply: str | None
    shown_first: Which | None = None
    response: Which | None = None
    preference: int = 0

    @property
    def place(self) -> Place:
        """What the reply is about."""
        return (self.shown_first or self.response or "first", self.preference)


def is_reply_file(path: Path) -> bool:
    """Return whether a file looks like one of ours, by its first line."""
    try:
        with path.open(encoding="utf-8") as file:
            first = json.loads(file.readline())
    except (OSError, ValueError):
        return False
    return isinstance(first, dict) and {"pair_id", "reply"} <= first.keys()


def read_replies(path: Path, pairs: Sequence[LabelledPair]) -> tuple[PairReading, ...]:
    """Return what stored replies say of pairs, one reading per pair, in their order.

    Raises:
        DataError: the file cannot be read; a line is wrong, names no pair, or comes twice.
    """
    known = {pair.pair_id: pair for pair in pairs}
    found: dict[str, dict[Place, str | None]] = {}
    rates: bool | None = None
    for where, line in _lines(path):
        if line.pair_id not in known:
            raise DataError(f"{where}: no pair has the id {line.pair_id!r}")
        if (line.shown_first is None) == (line.response is None):
            raise DataError(f"{where}: give shown_first (a choice) or response (a rating)")
        if rates is None:
            rates = line.response is not None
        if rates != (line.response is not None):
            raise DataError(f"{where}: the lines before are of the other kind, choice or rating")
        own = found.setdefault(line.pair_id, {})
        if line.place in own:
            raise DataError(f"{where}: this reply to pair {line.pair_id!r} is there twice")
        wishes = len(known[line.pair_id].item().preferences) if rates else 1
        if not 0 <= line.preference < wishes:
            raise DataError(f"{where}: the pair has {wishes} preferences, counted from 0")
        own[line.place] = line.reply
    if rates is None:
        raise DataError(f"{path} holds no replies")
    read = _rated if rates else _chosen
    both = not rates and any(len(own) > 1 for own in found.values())
    return tuple(read(pair, found.get(pair.pair_id, {}), both) for pair in pairs)


def _lines(path: Path) -> list[tuple[str, StoredReply]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    found = []
    for number, text in enumerate(lines, 1):
        if text.strip():
            where = f"{path}, line {number}"
            try:
                found.append((where, StoredReply.model_validate_json(text)))
            except ValidationError as error:
                first = error.errors()[0]
                field = ".".join(str(part) for part in first["loc"])
                raise DataError(f"{where}: {field or 'the line'}: {first['msg']}") from None
    return found


def _chosen(pair: LabelledPair, own: Mapping[Place, str | None], both: bool) -> PairReading:
    said: list[Verdict | None] = []
    reasons = []
    for place in ("first", "second") if both else (_only(own),):
        reply = own.get((place, 0))
        verdict = parse_verdict(reply) if reply is not None else None
        if verdict is None:
            reasons.append(NO_REPLY if reply is None else UNPARSED)
        elif place == "second":
            verdict = _EXCHANGED[verdict]
        said.append(verdict)
    made = PairReading.of(pair, said[0], said[1] if both else None, both_orders=both)
    return _with_reasons(made, len(said), reasons)


def _only(own: Mapping[Place, str | None]) -> Which:
    """Return the one order that was asked."""
    return next((which for which, _ in own), "first")


def _rated(pair: LabelledPair, own: Mapping[Place, str | None], _: bool) -> PairReading:
    wishes = range(len(pair.item().preferences))
    sums: list[int | None] = []
    given: list[int] = []
    reasons = []
    for which in ("first", "second"):
        ratings = []
        for wish in wishes:
            reply = own.get((which, wish))
            rating, reason = (None, NO_REPLY) if reply is None else read_rating(reply)
            reasons += [reason] if reason else []
            ratings.append(rating)
        read = [rating for rating in ratings if rating is not None]
        given += read
        sums.append(sum(read) if len(read) == len(ratings) else None)
    made = PairReading.of(pair, None, None, both_orders=False, ratings=(sums[0], sums[1]))
    return _with_reasons(made, 2 * len(wishes), reasons, tuple(given))


def _with_reasons(
    made: PairReading, replies: int, reasons: Sequence[str], given: tuple[int, ...] = ()
) -> PairReading:
    return replace(made, replies=replies, unread=tuple(reasons), given=given)
