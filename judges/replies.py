"""What a judge says of labelled pairs: asked here, or replies that were collected elsewhere.

Our own form is a JSONL file, one reply per line. Of a judge that chooses, in which the first place
is response_a:

    {"pair_id": "3", "shown_first": "first" | "second", "reply": "response_b"}

Of a judge that rates, one line for each response and preference (counted from 0; the default is 0):

    {"pair_id": "3", "response": "first" | "second", "preference": 0, "reply": "4"}

A reply may be null: the call failed. `"finish_reason": "length"` beside it says that it was cut.
Pairs without a line have no verdict. LLMBar, JudgeBench and
PandaLM keep replies in files of their own formats (see labelled.py). Stored replies are read by our
parsers, not taken from what the files say of them. Where a set has a rule of its own for turning
replies into a verdict, that rule is spelled out here.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mipo_eval.errors import DataError
from mipo_eval.judges.judge import (
    HIGH,
    LOW,
    UNPARSED,
    ChoiceRequest,
    Judge,
    choice_requests,
    rating_requests,
    read_choice,
    read_rating,
    read_verdict,
)
from mipo_eval.judges.labelled import (
    ARENA,
    PANDALM,
    LabelledPair,
    in_format,
    pair_rows,
    validated,
)
from mipo_eval.judges.parse import parse_choice, parse_rating, rating_probabilities
from mipo_eval.keys import canonical_json
from mipo_eval.models.base import Request, was_cut
from mipo_eval.rows import is_columnar, read_rows, without_nulls
from mipo_eval.store.calls import Call, Ledger
from mipo_eval.store.engine import Store
from mipo_eval.verdict import Verdict, ahead, exchanged, merge_orders

NO_REPLY = "no reply in the file"
Which = Literal["first", "second"]
Place = tuple[Which, int]
"""Which response stood first, or which one was rated on which preference."""
Said = tuple[Verdict | None, str | None]
"""A verdict in terms of the pair, or None and why there is none."""
Rated = tuple[int | None, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairReading:
    """What a judge said of one labelled pair; "a" is the first response, wherever it was shown."""

    pair: LabelledPair
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
    replies: int = 0
    """How many the judge was asked for, over orders, responses and preferences."""
    unread: tuple[str, ...] = ()
    """Why replies gave nothing: one reason for each that is missing or unreadable."""
    trouble: str = ""
    """What the first call that failed said, in full."""
    raw: tuple[str | None, ...] = ()
    """The replies of the orders asked, straight first, where a public set keeps them."""

    @property
    def group(self) -> str:
        """The pairs with this prompt, the unit of resampling."""
        return self.pair.unit

    @property
    def verdict(self) -> Verdict | None:
        """The judge's one verdict: from its ratings, or from both orders, or from the one asked."""
        if self.ratings is None:
            return merge_orders(self.straight, self.swapped) if self.both_orders else self.straight
        first, second = self.ratings
        return None if first is None or second is None else ahead(first - second)

    @property
    def longer(self) -> Verdict:
        """Which response is longer."""
        return ahead(len(self.pair.first) - len(self.pair.second))


def _chosen(
    pair: LabelledPair,
    said: Sequence[Said],
    *,
    trouble: str = "",
    raw: tuple[str | None, ...] = (),
) -> PairReading:
    """Return the reading of a pair from what was said in one order or in two."""
    return PairReading(
        pair=pair,
        straight=said[0][0],
        swapped=said[1][0] if len(said) > 1 else None,
        both_orders=len(said) > 1,
        replies=len(said),
        unread=tuple(why for _, why in said if why is not None),
        trouble=trouble,
        raw=raw,
    )


def _rated(
    pair: LabelledPair,
    sides: Sequence[Sequence[Rated]],
    *,
    probability: float | None = None,
    trouble: str = "",
) -> PairReading:
    """Return the reading of a pair from the ratings of its two responses, one a preference."""
    sums = []
    for side in sides:
        own = [rating for rating, _ in side if rating is not None]
        sums.append(sum(own) if len(own) == len(side) else None)
    said = [one for side in sides for one in side]
    return PairReading(
        pair=pair,
        both_orders=False,
        ratings=(sums[0], sums[1]),
        given=tuple(rating for rating, _ in said if rating is not None),
        probability=probability,
        replies=len(said),
        unread=tuple(why for _, why in said if why is not None),
        trouble=trouble,
    )


_Told = tuple[Request, Call]
_Tag = tuple[list[_Told], Request]
"""Where the answer goes, and what it answers."""


async def judge_pairs(
    store: Store,
    judge: Judge,
    pairs: Sequence[LabelledPair],
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> tuple[PairReading, ...]:
    """Return what a judge says of labelled pairs, by its protocol.

    A judge that rates is asked for every preference of both responses, one that chooses is asked
    in both orders.

    Raises:
        BackendError: the judge cannot be asked any more; what it answered is stored.
    """
    told: list[tuple[list[_Told], list[_Told]]] = [([], []) for _ in pairs]
    ledger: Ledger[_Tag] = Ledger(store, judge.backend)
    async with aclosing(ledger.ask(_questions(judge, pairs, told))) as answers:
        async for (side, request), call in answers:
            side.append((request, call))
            advance(1)
    return tuple(_reading(judge, pair, sides) for pair, sides in zip(pairs, told, strict=True))


def _questions(
    judge: Judge, pairs: Sequence[LabelledPair], told: Sequence[Iterable[list[_Told]]]
) -> Iterator[tuple[_Tag, Request]]:
    """Yield what is asked of each text, or in each order."""
    for pair, answers in zip(pairs, told, strict=True):
        item = pair.item()
        sides: Iterable[Iterable[Request]]
        if judge.protocol == "rubric":
            sides = (rating_requests(judge, item, text) for text in (pair.first, pair.second))
        else:
            sides = ((one,) for one in choice_requests(judge, item, pair.first, pair.second))
        for side, requests in zip(answers, sides, strict=True):
            for request in requests:
                yield (side, request), request


def count_questions(judge: Judge, pairs: Sequence[LabelledPair]) -> int:
    """Return how many replies `judge_pairs` needs, those that the ledger has among them."""
    if judge.protocol != "rubric":
        return 2 * len(pairs)
    return sum(2 * len(pair.item().preferences) for pair in pairs)


def _reading(judge: Judge, pair: LabelledPair, sides: Sequence[Sequence[_Told]]) -> PairReading:
    told = [one for side in sides for one in side]
    trouble = next((c.detail or c.status for _, c in told if c.status != "ok"), "")
    if judge.protocol != "rubric":
        said = [
            read_choice(judge, request, call.text, call.status, cut=call.cut)
            for request, call in told
            if isinstance(request, ChoiceRequest)
        ]
        return _chosen(pair, said, trouble=trouble)
    first, second = (_sum_probabilities(call for _, call in side) for side in sides)
    return _rated(
        pair,
        [[read_rating(call.text, call.status, cut=call.cut) for _, call in side] for side in sides],
        probability=preference_probability(first, second),
        trouble=trouble,
    )


def _sum_probabilities(calls: Iterable[Call]) -> list[float] | None:
    """Return the probabilities of a text's sums of ratings, from the lowest, if all are known."""
    total = [1.0]
    for call in calls:
        probabilities = rating_probabilities(call.logprobs, LOW, HIGH)
        if probabilities is None:
            return None
        sums = [0.0] * (len(total) + len(probabilities) - 1)
        for i, a in enumerate(total):
            for j, b in enumerate(probabilities):
                sums[i + j] += a * b
        total = sums
    return total


def preference_probability(
    first: Sequence[float] | None, second: Sequence[float] | None
) -> float | None:
    """Return the probability that the first of two independent sums is higher, ties counting half.

    Each is given as the probabilities of its values, from the lowest possible one.
    """
    if first is None or second is None:
        return None
    parts = [
        a * b * (1.0 if i > j else 0.5 if i == j else 0.0)
        for i, a in enumerate(first)
        for j, b in enumerate(second)
    ]
    return min(1.0, math.fsum(parts))


class StoredReply(BaseModel):
    """One line of a file of replies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pair_id: str
    reply: str | None
    shown_first: Which | None = None
    response: Which | None = None
    preference: int = 0
    finish_reason: str | None = None
    """As a server gives it; "length" where there was no room for more."""

    @property
    def place(self) -> Place:
        """What the reply is about."""
        return (self.shown_first or self.response or "first", self.preference)

    @property
    def cut(self) -> bool:
        """Whether it ended because there was no room for more."""
        return was_cut(self.finish_reason)


def is_reply_file(path: Path) -> bool:
    """Return whether a file looks like one of ours, by its first line."""
    try:
        first = next(read_rows(path), None)
    except DataError:
        return False
    return first is not None and {"pair_id", "reply"} <= first.data.keys()


def read_replies(path: Path, pairs: Sequence[LabelledPair]) -> tuple[PairReading, ...]:
    """Return what stored replies say of pairs, one reading per pair, in their order.

    Raises:
        DataError: the file cannot be read; a line is wrong, names no pair, or comes twice.
    """
    known = {pair.pair_id: pair for pair in pairs}
    found: dict[str, dict[Place, StoredReply]] = {}
    rates: bool | None = None
    columnar = is_columnar(path)
    for row in read_rows(path):
        where, fields = without_nulls(row) if columnar else row
        line = validated(where, StoredReply, {"reply": None} | fields if columnar else fields)
        if line.pair_id not in known:
            raise DataError(f"{where}: there is no pair with the id {line.pair_id!r}")
        if (line.shown_first is None) == (line.response is None):
            raise DataError(f"{where}: give shown_first (for a choice) or response (for a rating)")
        if rates is None:
            rates = line.response is not None
        if rates != (line.response is not None):
            raise DataError(f"{where}: choices and ratings cannot be in one file")
        own = found.setdefault(line.pair_id, {})
        if line.place in own:
            raise DataError(f"{where}: there are two such replies to the pair {line.pair_id!r}")
        wishes = len(known[line.pair_id].item().preferences) if rates else 1
        if not 0 <= line.preference < wishes:
            raise DataError(f"{where}: the pair has {wishes} preferences, which are counted from 0")
        own[line.place] = line
    if rates is None:
        raise DataError(f"{path} contains no replies")
    if rates:
        return tuple(_stored_ratings(pair, found.get(pair.pair_id, {})) for pair in pairs)
    both = any(len(own) > 1 for own in found.values())
    return tuple(_stored_choices(pair, found.get(pair.pair_id, {}), both) for pair in pairs)


def _stored_choices(
    pair: LabelledPair, own: Mapping[Place, StoredReply], both: bool
) -> PairReading:
    asked: Sequence[Which] = _SIDES
    if not both:  # the one order that was asked
        asked = [next((which for which, _ in own), "first")]
    said: list[Said] = []
    for which in asked:
        line = own.get((which, 0))
        if line is None or line.reply is None:
            said.append((None, NO_REPLY))
        else:
            swapped = which == "second"
            said.append(read_verdict("pairwise-tie", line.reply, swapped=swapped, cut=line.cut))
    return _chosen(pair, said)


def _stored_ratings(pair: LabelledPair, own: Mapping[Place, StoredReply]) -> PairReading:
    sides: list[list[Rated]] = [[], []]
    for side, which in zip(sides, _SIDES, strict=True):
        for wish in range(len(pair.item().preferences)):
            line = own.get((which, wish))
            if line is None or line.reply is None:
                side.append((None, NO_REPLY))
            else:
                side.append(read_rating(line.reply, cut=line.cut))
    return _rated(pair, sides)


_SIDES: tuple[Which, Which] = ("first", "second")


def read_set_replies(name: str, path: Path) -> tuple[PairReading, ...]:
    """Return what a judge said of a public set, from a file of the set's own format.

    Raises:
        DataError: there is no such set, or the file is not of its format or holds no replies.
    """
    rows = pair_rows(name, path)
    with in_format(name, path):
        found = [_SETS[name](pair, row) for pair, row in rows] if name in _SETS else [None]
    readings = tuple(reading for reading in found if reading is not None)
    if not readings:
        raise DataError(f"{path} contains pairs of {name}, but no replies to them")
    return readings


def _of_orders(
    pair: LabelledPair, *shown: Verdict | None, raw: tuple[str | None, ...] = ()
) -> PairReading:
    """Return the reading of one order or two, each in terms of the places that were shown."""
    own = (shown[0], *(exchanged(verdict) for verdict in shown[1:]))
    said = [(verdict, UNPARSED if verdict is None else None) for verdict in own]
    return _chosen(pair, said, raw=raw)


def _llmbar(pair: LabelledPair, row: Mapping[str, Any]) -> PairReading | None:
    if "results" not in row:
        return None
    result = row["results"][0]
    if "score_1" not in result:
        told = [result[f"swap = {swapped}"]["completion"] for swapped in (False, True)]
        read = (parse_choice(reply, cut=was_cut(reason)) for reply, reason in told)
        return _of_orders(pair, *read, raw=tuple(reply for reply, _ in told))
    scores = {key: result[key] for key in ("score_1", "score_2")}
    first, second = (parse_rating(told[0], 0, 10) for told in scores.values())
    straight, swapped = llmbar_verdicts(first, second)
    return PairReading(
        pair=pair,
        straight=straight,
        swapped=swapped,
        ratings=(first, second),
        replies=2,
        unread=(UNPARSED,) * [first, second].count(None),
        raw=(canonical_json(scores),) * 2,
    )


def llmbar_verdicts(first: int | None, second: int | None) -> tuple[Verdict, Verdict]:
    """Return LLMBar's verdicts for a pair of ratings, straight and with the places exchanged.

    Its rule for a forced choice: the response shown first wins only with the strictly higher
    rating, and also where a rating is missing; otherwise the one shown second wins. It is kept here
    to reproduce the published accuracies; our own numbers count ties and missing ratings as such.
    """
    if first is None or second is None:
        return "a", "b"
    return ("a" if first > second else "b"), ("b" if second > first else "a")


def _judgebench(pair: LabelledPair, row: Mapping[str, Any]) -> PairReading | None:
    if "judgments" not in row:
        return None
    told = [judgment.get("judgment") for judgment in row["judgments"]][:2]
    raw = tuple(one["response"] if one else None for one in told)
    return _of_orders(pair, *(parse_arena(reply or "") for reply in raw), raw=raw)


def parse_arena(reply: str) -> Verdict | None:
    """Return the verdict of a reply in Arena-Hard's form, [[A>>B]] to [[B>>A]].

    The form is read as its authors read it: what stands in double brackets, if it is one label.
    A strong and a weak preference for the same response are two labels, and no verdict.
    """
    found = set(re.findall(r"\[\[([AB<>=]+)\]\]", reply))
    return ARENA.get(found.pop()) if len(found) == 1 else None


def _pandalm(pair: LabelledPair, row: Mapping[str, Any]) -> PairReading | None:
    """Return the verdict that PandaLM's file holds: it keeps reasons, but not the replies."""
    if "annotator1" in row:
        return None
    verdict = PANDALM[int(row["pandalm_result"])] if row else None
    reason = row.get("pandalm_reason")
    return _of_orders(pair, verdict, raw=(reason if isinstance(reason, str) else None,))


_SETS: dict[str, Callable[[LabelledPair, Mapping[str, Any]], PairReading | None]] = {
    "llmbar": _llmbar,
    "judgebench": _judgebench,
    "pandalm": _pandalm,
}
"""Name to how the replies in its rows are read."""
