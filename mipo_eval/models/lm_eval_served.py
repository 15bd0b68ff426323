"""lm-eval's chat-completions model, keeping why each response ended and what was refused."""

import json
import os
from contextlib import suppress
from functools import cached_property
from typing import Any

from aiohttp import ClientResponseError
from lm_eval.models.openai_completions import LocalChatCompletion

from mipo_eval.errors import ModelError
from mipo_eval.keys import canonical_json
from mipo_eval.models.effort import Effort
from mipo_eval.models.lm_eval import Recording, rounds
from mipo_eval.models.openai import given_thinking
from mipo_eval.models.raw_response import FINISHED, RawResponse
from mipo_eval.models.served_prompt import served_prompt_end
from mipo_eval.models.thinking import continued, marked

_REFUSED = {400, 404, 413, 422}


class RecordingChatCompletion(Recording, LocalChatCompletion):  # type: ignore[misc]
    """LocalChatCompletion whose last `generate_until` can be asked for its outcomes.

    A server that stops answering is a ModelError.
    """

    def __init__(self, *, hosted: bool, effort: Effort, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(seed=seed, **kwargs)
        self._hosted = hosted
        self._effort = effort
        url = self.base_url.removesuffix("/chat/completions")
        self._prompt_end = served_prompt_end(url, self.model, effort)
        self._record(seed)

    @cached_property
    def api_key(self) -> str:
        """The key of OPENAI_API_KEY; a local server needs none."""
        return os.environ.get("OPENAI_API_KEY", "")

    def _too_long(self, request: Any) -> None:
        """Leave it to the server, which knows its context."""

    def _generate(self, sent: list[Any]) -> list[str]:
        if not sent[0].args[1].get("do_sample"):
            return super()._generate(sent)
        # Replies come back in any order, so equal prompts must not be under way together.
        texts = [""] * len(sent)
        for positions in rounds(self._names(sent)):
            now = [sent[position] for position in positions]
            for position, text in zip(positions, super()._generate(now), strict=True):
                texts[position] = text
        return texts

    def _names(self, sent: list[Any]) -> list[str]:
        return [canonical_json(json.loads(request.args[0].prompt)) for request in sent]

    def _create_payload(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        payload: dict[str, Any] = super()._create_payload(*args, **kwargs)
        if payload["temperature"] > 0:
            payload["seed"] = self._seeds.first(canonical_json(payload["messages"]))
        if not any(payload.get("stop") or []):
            payload.pop("stop", None)  # an empty stop string is refused by some servers
        if self._hosted:
            payload["max_completion_tokens"] = payload.pop("max_tokens")
        return payload | self._effort.request_parameters()

    async def amodel_call(self, *args: Any, **kwargs: Any) -> Any:
        """Send one request; a refusal is this item's outcome, lm-eval retries other errors."""
        try:
            return await super().amodel_call(*args, **kwargs)
        except ClientResponseError as error:
            if error.status in {401, 403}:
                raise ModelError(
                    f"{self.base_url} refuses our key (HTTP {error.status}): set OPENAI_API_KEY"
                ) from error
            if error.status not in _REFUSED:
                raise
            reason = f"the server refused the request (HTTP {error.status})"
            self.cache_hook.announce([RawResponse(reason=reason)])
            for key in kwargs["cache_keys"]:
                self.cache_hook.add_partial("generate_until", key, "")
            return [""]

    def parse_generations(self, outputs: Any, **kwargs: Any) -> list[str]:
        """Read a reply and announce how it ended, before lm-eval hands its text on."""
        answer = outputs if isinstance(outputs, dict) else {}
        choices: Any = answer.get("choices")
        usage = answer.get("usage") or {}
        content = thinking = None
        with suppress(TypeError, IndexError, KeyError, AttributeError):
            content = choices[0]["message"]["content"]
            thinking = given_thinking(choices[0]["message"])
        finish = choices[0].get("finish_reason") if choices else None
        if not isinstance(content, str):
            content = "" if thinking or finish == "length" else None
        if content is not None:
            content = marked(content, apart=thinking, finish=finish)
            # One that ended by itself is an answer: the server may drop what was thought.
            if thinking is None and finish == "length":
                content = continued(self._prompt_end, content)
        told = usage.get("completion_tokens_details") or {}
        ended = RawResponse(
            reason=None if content is not None else f"the server sent no text ({finish})",
            finish_reason=FINISHED.get(str(finish)),
            thinking=thinking,
            prompt_tokens=usage.get("prompt_tokens"),
            response_tokens=usage.get("completion_tokens"),
            thinking_tokens=told.get("reasoning_tokens") or None,
        )
        self.cache_hook.announce([ended])
        return [content or ""]
