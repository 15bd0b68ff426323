"""The checker: the demo world's judge, which rates by exact rule and never errs or tires."""

from collections.abc import AsyncIterator, Iterable, Mapping

from mipo_eval.demo.preferences import BY_STATEMENT
from mipo_eval.demo.reading import incoherence, read
from mipo_eval.demo.rules import RULES
from mipo_eval.models.base import Failure, Reply, Request

VERSION = "2"
"""Changes with every change of a rule, so that no rating of an older rule is taken for new."""


class Checker:
    """A backend that replies "1" to "5" by the rule of the preference it is asked about.

    It reads the request's slots `query`, `response` and `preference`, not its messages. A response
    that is no coherent answer to the query (`reading.incoherence`) is rated 1. A preference the
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
        preference = request.slots["preference"]
        if preference.strip() not in BY_STATEMENT:
            return Failure(
                kind="bad_request",
                detail=f"the checker has no rule for the preference {preference!r}:"
                " it rates items of the demo suite only",
            )
        return Reply(
            text=str(rate(request.slots["query"], request.slots["response"], preference)),
            finish_reason="stop",
            model=f"rules-{VERSION}",
        )


def rate(query: str, response: str, preference: str) -> int:
    """Return how well a response follows a preference, 1 (not at all) to 5.

    Args:
        query: what the user asked, with or without the user's context.
        response: the text to be rated.
        preference: the statement of one of the demo world's preferences.

    Raises:
        KeyError: there is no rule for this preference.
    """
    rule = RULES[BY_STATEMENT[preference.strip()].name]
    reading = read(response)
    return 1 if incoherence(reading, query, preference) else rule(reading)
