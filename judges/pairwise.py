"""The pairwise protocol: which of two responses is better, asked in both orders (PAPER.md, Fig. 3).

Every pair is asked twice, the second time with the places exchanged, since judges favour places.
What follows from the two answers, `verdict.py` says.
"""

from dataclasses import dataclass

from mipo_eval.judges.judge import Judge, Protocol
from mipo_eval.judges.parse import parse_choice, parse_verdict
from mipo_eval.judges.rubric import CALL_FAILED, UNPARSED, guide
from mipo_eval.models import Message, Request
from mipo_eval.records import Item, text_key
from mipo_eval.verdict import Verdict, exchanged

PAIR_CHOICES = ("response_a", "response_b")
TIE = "tie"

PAIR_SLOTS = frozenset({"query", "criteria", "response_a", "response_b"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceRequest(Request):
    """A request that knows which choice it asks for."""

    item_key: str
    first_key: str
    """Text key of the response that is "a" in the verdict, wherever it is shown."""
    second_key: str
    swapped: bool
    """True when the second response is shown in the first place."""


def choice_requests(
    judge: Judge, item: Item, first: str, second: str
) -> tuple[ChoiceRequest, ChoiceRequest]:
    """Return the two requests about a pair of responses, the second with the places exchanged."""
    choices = (*PAIR_CHOICES, TIE) if judge.protocol == "pairwise-tie" else PAIR_CHOICES
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
    return (exchanged(named) if swapped else named), None
