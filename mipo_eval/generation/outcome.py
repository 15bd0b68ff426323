"""What lm-eval does not hand on: why each response ended, and how long it was.

lm-eval's models return texts only. Each of our subclasses overrides `generate_until` with
`recorded`, which keeps one `RawResponse` per request, in the order of the requests.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mipo_eval.records import FinishReason


@dataclass(frozen=True, slots=True, kw_only=True)
class RawResponse:
    """One response as it came out of the model."""

    text: str | None
    reason: str | None = None
    """Why there is no text."""
    final: bool = False
    """True when asking again would fail again."""
    finish_reason: FinishReason | None = None
    prompt_tokens: int | None = None
    response_tokens: int | None = None


TOO_LONG = "prompt longer than the model's context"


class CompletionHook:
    """Stands where lm-eval keeps its response cache, and sees each completion as it is made.

    Models announce how a completion ended (`announce`) just before lm-eval hands its text to the
    cache (`add_partial`), in the same order: the two together are one outcome.
    """

    def __init__(self) -> None:
        self._announced: deque[RawResponse] = deque()
        self._made: defaultdict[str, deque[RawResponse]] = defaultdict(deque)

    def announce(self, outcomes: Iterable[RawResponse]) -> None:
        """Queue how the next completions ended; their texts follow."""
        self._announced.extend(outcomes)

    def add_partial(self, attr: str, request: Any, text: str) -> None:
        """Take the text of a completion (lm-eval's name and signature)."""
        how = self._announced.popleft() if self._announced else RawResponse(text=None)
        outcome = (
            how
            if how.reason
            else RawResponse(
                text=text,
                finish_reason=how.finish_reason,
                prompt_tokens=how.prompt_tokens,
                response_tokens=how.response_tokens,
            )
        )
        self._made[str(request[0])].append(outcome)

    def take(self, context: str) -> RawResponse | None:
        """Return the next outcome for a context; equal contexts come out in order."""
        made = self._made.get(context)
        return made.popleft() if made else None


def recorded(
    requests: list[Any],
    hook: CompletionHook,
    refuse: Callable[[Any], RawResponse | None],
    generate: Callable[[list[Any]], list[str]],
) -> tuple[list[str], list[RawResponse]]:
    """Generate for the requests that fit; return texts for lm-eval and outcomes for us.

    Args:
        requests: lm-eval instances; `args` are (context, generation arguments).
        hook: installed as the model's cache hook.
        refuse: returns why a request must not be sent (too long), or None.
        generate: lm-eval's own `generate_until`.
    """
    refused = [refuse(request) for request in requests]
    sent = [request for request, no in zip(requests, refused, strict=True) if no is None]
    texts = iter(generate(sent) if sent else [])
    outcomes = []
    for request, no in zip(requests, refused, strict=True):
        if no is not None:
            outcomes.append(no)
            continue
        text = next(texts)
        outcomes.append(hook.take(str(request.args[0])) or RawResponse(text=text))
    return [outcome.text or "" for outcome in outcomes], outcomes
