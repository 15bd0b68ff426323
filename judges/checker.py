"""The judge by rule: of the demo world and of everyday preferences, exact and never tired."""

from collections.abc import AsyncIterator, Iterable, Mapping

from mipo_eval.demo import rules as of_demo
from mipo_eval.everyday import rules as of_everyday
from mipo_eval.models.base import Failure, Reply, Request

VERSION = f"{of_demo.VERSION}.{of_everyday.VERSION}"
"""Changes with every change of a rule, so that no rating of an older rule is taken for new."""

_RATE = (of_demo.rate, of_everyday.rate)
"""Each raises KeyError for a preference that it has no rule for."""


class Checker:
    """A backend that replies "1" to "5" by the rule of the preference it is asked about.

    It reads the request's slots `query`, `response` and `preference`, not its messages. A response
    that is no coherent answer to the query (`incoherence`) is rated 1. A preference the
    checker has no rule for is a failure, never a number.
    """

    identity: Mapping[str, str] = {"backend": "checker", "model": "rules", "revision": VERSION}

    async def check(self) -> None:
        """Do nothing: rules can always be asked."""

    async def answer(
        self, requests: Iterable[Request]
    ) -> AsyncIterator[tuple[Request, Reply | Failure]]:
        """Yield each request with its rating, in order."""
        for request in requests:
            yield request, self.reply(request)

    def reply(self, request: Request) -> Reply | Failure:
        """Return the rating of one request, or why there is none."""
        missing = [
            name for name in ("query", "response", "preference") if name not in request.slots
        ]
        if missing:
            return Failure(
                kind="bad_request",
                detail=f"the checker rates one response on one preference and needs the slots"
                f" query, response and preference: {', '.join(missing)} missing",
            )
        slots = request.slots
        for rate in _RATE:
            try:
                rating = rate(slots["query"], slots["response"], slots["preference"])
            except KeyError:
                continue
            return Reply(text=str(rating), finish_reason="stop", model=f"rules-{VERSION}")
        return Failure(
            kind="bad_request",
            detail=f"the checker has no rule for the preference {slots['preference']!r}:"
            " it rates items of the suites demo and everyday only",
        )
