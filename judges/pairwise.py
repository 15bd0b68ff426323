"""The pairwise protocol: which of two responses is better, asked in both orders (PAPER.md, Fig. 3).

Every pair is asked twice, the second time with the places exchanged, since judges favour places.
If both answers name the same response, it wins. If they name different ones, the pair is a tie and
counted as a position flip: the judge looked at the place, not at the response. If one of the two
answers is missing the pair is undecided, not decided on one order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mipo_eval.backends import Message, Request
from mipo_eval.judges.judge import Judge, Protocol
from mipo_eval.judges.parse import parse_choice, parse_verdict
from mipo_eval.judges.rubric import CALL_FAILED, UNPARSED, guide
from mipo_eval.judges.verdict import Verdict, merge_orders
from mipo_eval.records import Item, text_key

CHOICES = ("response_a", "response_b")
TIE = "tie"

REQUIRED_SLOTS = frozenset({"query", "criteria", "response_a", "response_b"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceRequest(Request):
    """A request that knows which choice it asks for."""

    item_key: str
    first_key: str
    """Text key of the response that is "a" in the verdict, wherever it is shown."""
    second_key: str
    swapped: bool
    """True when the second response is shown in the first place."""


class PairVerdict(NamedTuple):
    """What a judge said of one pair, both orders taken together."""

    winner: Verdict | None
    """"a" is the first response; None when an answer is missing."""
    flipped: bool
    """The two orders named different responses."""
    reason: str | None
    """Why there is no winner, when there is none."""


def choice_requests(
    judge: Judge, item: Item, first: str, second: str
) -> tuple[ChoiceRequest, ChoiceRequest]:
    """Return the two requests about a pair of responses, the second with the places exchanged."""
    choices = (*CHOICES, TIE) if judge.protocol == "pairwise-tie" else CHOICES
    requests = []
    for swapped in (False, True):
        shown = (second, first) if swapped else (first, second)
        slots = {
            "query": item.prompt,
            "criteria": criteria(item),
            "response_a": shown[0],
            "response_b": shown[1],
        }
        requests.append(
            ChoiceRequest(
                messages=(Message(role="user", content=judge.prompt.render(slots)),),
                sampling=judge.sampling,
                choices=choices if judge.constrained else None,
                slots=slots,
                item_key=item.key,
                first_key=text_key(first),
                second_key=text_key(second),
                swapped=swapped,
            )
        )
    return requests[0], requests[1]


def criteria(item: Item) -> str:
    """Return an item's preferences, with their rubrics where it has them, as a numbered list."""
    lines = []
    for number, preference in enumerate(item.preferences):
        lines.append(f"{number + 1}. {preference}")
        if item.rubric:
            lines += [f"   {line}" for line in guide(item.rubric[number]).splitlines()]
    return "\n".join(lines)


def read_choice(
    judge: Judge, request: ChoiceRequest, reply: str | None, status: str = "ok"
) -> tuple[Verdict | None, str | None]:
    """Return the verdict in a ledger call, in terms of first and second, or None and the reason.

    Args:
        judge: who was asked; only "pairwise-tie" may answer with a tie.
        request: what was asked; it knows which response stood where.
        reply: the raw reply, None when there is none.
        status: "ok", or the kind of failure.
    """
    return read_verdict(judge.protocol, reply, status, swapped=request.swapped)


def read_verdict(
    protocol: Protocol, reply: str | None, status: str = "ok", *, swapped: bool
) -> tuple[Verdict | None, str | None]:
    """Return the verdict in a reply, as `read_choice` does, where the request is not at hand.

    Args:
        protocol: only "pairwise-tie" may answer with a tie.
        reply: the raw reply, None when there is none.
        status: "ok", or the kind of failure.
        swapped: whether the second response was shown in the first place.
    """
    if reply is None or status != "ok":
        return None, f"{CALL_FAILED}: {status}"
    read = parse_verdict if protocol == "pairwise-tie" else parse_choice
    named = read(reply)
    if named is None:
        return None, UNPARSED
    return (_EXCHANGED[named] if swapped else named), None


_EXCHANGED: dict[Verdict, Verdict] = {"a": "b", "b": "a", "tie": "tie"}


def pair_verdict(
    first: tuple[Verdict | None, str | None], second: tuple[Verdict | None, str | None]
) -> PairVerdict:
    """Join what the two orders said, each as `read_choice` gives it."""
    winner = merge_orders(first[0], second[0])
    flipped = {first[0], second[0]} == {"a", "b"}
    return PairVerdict(winner, flipped, first[1] or second[1] if winner is None else None)


class PairCounts(NamedTuple):
    """How pairs came out; the rates are over decided pairs only."""

    wins: int
    ties: int
    losses: int
    flips: int
    """Ties that are flips."""
    undecided: dict[str, int]
    """Pairs without a verdict, by reason."""

    @property
    def decided(self) -> int:
        """Pairs with a verdict."""
        return self.wins + self.ties + self.losses

    def flip_rate(self) -> float | None:
        """Return the share of decided pairs, 0-100, whose verdict turned with the order."""
        return 100 * self.flips / self.decided if self.decided else None


def count_pairs(verdicts: Iterable[PairVerdict]) -> PairCounts:
    """Return how often the first response won, tied and lost."""
    found: Sequence[PairVerdict] = list(verdicts)
    undecided: dict[str, int] = {}
    for verdict in found:
        if verdict.winner is None:
            reason = verdict.reason or UNPARSED
            undecided[reason] = undecided.get(reason, 0) + 1
    winners = [verdict.winner for verdict in found]
    return PairCounts(
        wins=winners.count("a"),
        ties=winners.count("tie"),
        losses=winners.count("b"),
        flips=sum(verdict.flipped for verdict in found),
        undecided=undecided,
    )
