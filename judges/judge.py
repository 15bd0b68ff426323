"""A judge: who is asked, by which protocol, with which prompt, under one name and one key.

The rubric protocol asks for one rating per preference of an item (paper, "Judging"). For each
preference the judge sees the query, the response and that one preference, and answers
with a whole number from 1 to 5. The ratings of a response are added up and compared with the
reference response's sum; both have one rating per preference, so sums compare exactly as means do
and no rounding decides a tie. A response with a missing rating is unscored, with the reason:
adding up the others would compare two responses on different preferences, and would favour
whichever response the judge could not rate on the preference it served worst.

The pairwise protocol asks which of two responses is better, twice, the second time with the places
exchanged (paper, figure 3). What follows from the two answers, `verdict.py` says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from mipo_eval.errors import ConfigError
from mipo_eval.judges.parse import PARSER_VERSION, parse_choice, parse_rating, parse_verdict
from mipo_eval.judges.prompt import Prompt
from mipo_eval.keys import digest
from mipo_eval.models.base import Backend, Message, Request, Sampling, why_failed
from mipo_eval.models.changes import Changing
from mipo_eval.models.thinking import take_apart
from mipo_eval.records import Item, Rubric, text_key
from mipo_eval.signature import short
from mipo_eval.verdict import Verdict, exchanged

Protocol = Literal["rubric", "pairwise", "pairwise-tie"]
"""One rating per preference; or the better of two responses, asked in both orders, with or without
"tie" as an answer."""


@dataclass(frozen=True)
class Judge:
    """Who judges, how it is asked, and how its replies are read."""

    name: str
    """What tables and signatures call it: the preset's or the model's name, or "checker"."""
    spec: str
    """What the user wrote, e.g. "openai:qwen2.5-14b@http://localhost:8000"."""
    backend: Backend
    prompt: Prompt
    protocol: Protocol = "rubric"
    sampling: Sampling = field(default_factory=Sampling)
    constrained: bool = True
    """Whether the backend holds it to the answers asked for, where it can. The paper's judges are
    not held: what they say instead of an answer is then seen, and unscored."""

    @cached_property
    def key(self) -> str:
        """Digest of everything that decides a verdict; equal keys judge equally."""
        return digest(
            {
                "backend": dict(self.backend.identity),
                "protocol": self.protocol,
                "prompt": self.prompt.text,
                "sampling": self.sampling.to_json(),
                "parser": PARSER_VERSION,
                # Left out where it is as usual, so that keys stay what they were.
                **({} if self.constrained else {"constrained": False}),
            }
        )

    @property
    def stored_spec(self) -> Mapping[str, Any]:
        """What the store keeps of it: how it is asked, and what read its replies."""
        backend = dict(self.backend.identity)
        sampling = self.sampling.to_json()
        about = {"spec": self.spec, "backend": backend, "sampling": sampling}
        return {**about, "constrained": self.constrained, **self.signature_parts()}

    @property
    def settings(self) -> str | None:
        """The settings its server made us change, or None: see `models/changes.py`."""
        return self.backend.changes.settings if isinstance(self.backend, Changing) else None

    def signature_parts(self) -> Mapping[str, str]:
        """Return what a number judged by this judge says about it, for `signature.join`."""
        return {
            "judge": self.name,
            "judge_key": short(self.key),
            "protocol": self.protocol,
            "prompt": short(self.prompt.hash),
            "parser": PARSER_VERSION,
            **({"settings": self.settings} if self.settings else {}),
        }


LOW, HIGH = 1, 5
_RATING_CHOICES = tuple(str(rating) for rating in range(LOW, HIGH + 1))

RATING_SLOTS = frozenset({"query", "response", "preference"})
RATING_OPTIONAL_SLOTS = frozenset({"rubric"})

CUT_JUDGE = "the judge was cut inside its thinking"
"""The reason of a rating whose reply ended before its answer began."""
UNPARSED = "unparsable reply"
"""The reason of a rating whose reply gave no one answer."""
CUT = "reply cut off before an answer"
"""The reason where there was no room for more, and what came does not end in an answer."""


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
                messages=_asked(judge, item, slots),
                sampling=judge.sampling,
                choices=_RATING_CHOICES if judge.constrained else None,
                slots=slots,
                item_key=item.key,
                text_key=key,
                aspect=aspect,
            )
        )
    return tuple(requests)


def _asked(judge: Judge, item: Item, slots: Mapping[str, str]) -> tuple[Message, ...]:
    return (Message(role="user", content=judge.prompt.render(slots, item.messages)),)


def guide(rubric: str | Rubric) -> str:
    """Return a rubric as the judge reads it: the criterion, then what each rating looks like."""
    if isinstance(rubric, str):
        return rubric
    scores = (f"{score}: {text}" for score, text in sorted(rubric.scores.items()))
    return "\n".join([rubric.criterion, *scores])


def read_rating(
    reply: str | None, status: str = "ok", *, cut: bool = False
) -> tuple[int | None, str | None]:
    """Return the rating in a ledger call's raw reply, or None and the reason.

    Args:
        reply: None when there is none.
        status: "ok", or the kind of failure.
        cut: whether it ended because there was no room for more.
    """
    if reply is None or status != "ok":
        return None, why_failed(status)
    rating = parse_rating(reply, LOW, HIGH, cut=cut)
    return rating, None if rating is not None else _unread(reply, cut=cut)


def _unread(reply: str, *, cut: bool) -> str:
    """Return why a reply that came, whole or cut, gave nothing."""
    if take_apart(reply).response is None:
        return CUT_JUDGE
    return CUT if cut else UNPARSED


_PAIR_CHOICES = ("response_a", "response_b")
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
    choices = (*_PAIR_CHOICES, "tie") if judge.protocol == "pairwise-tie" else _PAIR_CHOICES
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
                messages=_asked(judge, item, slots),
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
    judge: Judge,
    request: ChoiceRequest,
    reply: str | None,
    status: str = "ok",
    *,
    cut: bool = False,
) -> tuple[Verdict | None, str | None]:
    """Return the verdict in a ledger call, in terms of first and second, or None and the reason."""
    return read_verdict(judge.protocol, reply, status, swapped=request.swapped, cut=cut)


def read_verdict(
    protocol: Protocol,
    reply: str | None,
    status: str = "ok",
    *,
    swapped: bool,
    cut: bool = False,
) -> tuple[Verdict | None, str | None]:
    """Return the verdict in a reply, in terms of first and second, or None and the reason.

    Args:
        protocol: only "pairwise-tie" may answer with a tie.
        reply: the raw reply, None when there is none.
        status: "ok", or the kind of failure.
        swapped: whether the second response was shown in the first place.
        cut: whether the reply ended because there was no room for more.
    """
    if reply is None or status != "ok":
        return None, why_failed(status)
    read = parse_verdict if protocol == "pairwise-tie" else parse_choice
    named = read(reply, cut=cut)
    if named is None:
        return None, _unread(reply, cut=cut)
    return (exchanged(named) if swapped else named), None
