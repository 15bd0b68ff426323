"""A response as it comes out of a model under evaluation, and what is kept of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from mipo_eval.keys import digest
from mipo_eval.models.thinking import CUT, Parts, continued, take_apart
from mipo_eval.records import FinishReason, Response, clean_text

FINISHED: Mapping[object, FinishReason] = {"stop": "stop", "length": "length"}
"""What engines call the end of a response, as far as we tell ends apart."""

Count = Callable[[str], int | None]
"""Tokens of a text; None where only a server knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawResponse:
    """One response as it came out of the model, its thinking not taken off yet."""

    text: str | None = None
    reason: str | None = None
    final: bool = False
    finish_reason: FinishReason | None = None
    thinking: str | None = None
    """Where the engine gives it beside the text."""
    prompt_tokens: int | None = None
    response_tokens: int | None = None
    """All that was written."""
    thinking_tokens: int | None = None
    """As many of these are thinking, where the engine counts them."""

    def read(self, item_key: str, prompt: str, count: Count) -> Response:
        """Return it as a response to an item, with what was thought apart from it.

        Args:
            item_key: of the item.
            prompt: what the model was given; its end may begin the thinking.
            count: counts tokens of the response where the engine only counts all of them.
        """
        made = Response(
            item_key=item_key,
            text=None,
            reason=self.reason,
            final=self.final,
            finish_reason=self.finish_reason,
            prompt_hash=digest(prompt),
            prompt_tokens=self.prompt_tokens,
            response_tokens=self.response_tokens,
        )
        if self.text is None:
            return made
        reply = clean_text(self.text if self.thinking else continued(prompt, self.text))
        parts = take_apart(reply, apart=clean_text(self.thinking or ""))
        if parts == (reply, None):
            return replace(made, text=reply.strip())
        answer, thought = self._tokens(parts, count)
        made = replace(
            made, thinking=parts.thinking, response_tokens=answer, thinking_tokens=thought
        )
        if parts.response is None:  # greedy or seeded, it would be cut again
            return replace(made, reason=CUT, final=True)
        return replace(made, text=parts.response.strip())

    def _tokens(self, parts: Parts, count: Count) -> tuple[int | None, int | None]:
        """Return the tokens of the response and those of its thinking, with its marks."""
        total, thought = self.response_tokens, self.thinking_tokens
        if parts.response is None:
            return None, total
        if thought is None and total is not None:
            answer = count(parts.response)
            thought = None if answer is None else max(0, total - answer)
        if total is None or thought is None:
            return None, thought
        return total - thought, thought if parts.thinking else None
