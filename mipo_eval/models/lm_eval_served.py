"""lm-eval's chat-completions model, keeping why each response ended and what was refused."""

import asyncio
import json
from contextlib import suppress
from typing import Any

from aiohttp import ClientError, ClientResponseError, ClientSession, ClientTimeout
from lm_eval.models.openai_completions import LocalChatCompletion

from mipo_eval.errors import ModelError
from mipo_eval.keys import canonical_json
from mipo_eval.models.chat import without_system
from mipo_eval.models.credentials import credential
from mipo_eval.models.effort import Effort
from mipo_eval.models.lm_eval_keyed import Keyed
from mipo_eval.models.openai import given_thinking
from mipo_eval.models.raw_response import FINISHED, RawResponse
from mipo_eval.models.recording import Recording, rounds
from mipo_eval.models.served_prompt import served_prompt_end
from mipo_eval.models.thinking import continued, marked
from mipo_eval.models.told import tokens_of

_REFUSED = {400, 404, 413, 422}
_UNKNOWN_WORDS = {400, 422}
_PLAINLY = "without what is neutral"
"""Marks the settings of a request that is sent once more; never sent itself."""
_GREEDY: dict[str, Any] = {"repetition_penalty": 1.0}
_SAMPLED: dict[str, Any] = {**_GREEDY, "top_k": -1, "min_p": 0.0}
"""What is neutral, in the words of vLLM and SGLang."""


_PATIENCE = ClientTimeout(total=120)


def _has_system_turn(request: Any) -> bool:
    return bool(json.loads(request.args[0].prompt)[0]["role"] == "system")


class RecordingChatCompletion(Keyed, Recording, LocalChatCompletion):  # type: ignore[misc]
    """LocalChatCompletion that tells how each response ended.

    A server that stops answering is a ModelError. vLLM and SGLang follow the generation_config of
    their checkpoint wherever a request says nothing, so requests say what is neutral; a server that
    does not know the words is asked without them.

    Args:
        hosted: whether it is OpenAI's own, which has no such habits.
        neutral: whether the checkpoint's own way of drawing is to be kept out.
    """

    def __init__(
        self, *, hosted: bool, effort: Effort, neutral: bool = True, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(seed=seed, **kwargs)
        self._hosted = hosted
        self._neutral = neutral and not hosted
        self._effort = effort
        url = self.base_url.removesuffix("/chat/completions")
        self._prompt_end = served_prompt_end(url, self.model, effort)
        self.continues = not hosted
        """Whether it can be asked to go on with a turn that has begun: OpenAI would answer it."""
        self.folds_system: bool | None = False if hosted else None
        """Whether system prompts stand before the first user turn; None until one is to be sent."""
        self._record(seed, each=True)

    def _too_long(self, request: Any) -> None:
        """Leave it to the server, which knows its context."""

    def _generate(self, sent: list[Any]) -> list[str]:
        if self.folds_system is None and any(map(_has_system_turn, sent)):
            self.folds_system = asyncio.run(self._lacks_system_role())
        if not sent[0].args[1].get("do_sample"):
            return super()._generate(sent)
        # Replies come back in any order, so equal prompts must not be under way together.
        texts = [""] * len(sent)
        for positions in rounds(self._names(sent)):
            now = [sent[position] for position in positions]
            for position, text in zip(positions, super()._generate(now), strict=True):
                texts[position] = text
        return texts

    async def _lacks_system_role(self) -> bool:
        """Whether the server refuses a system turn, and nothing else about a short conversation."""
        turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello."}]
        with suppress(ClientError, TimeoutError):  # the requests themselves will tell
            async with ClientSession(headers=self.header, timeout=_PATIENCE) as session:
                return await self._refuses(session, turns) and not await self._refuses(
                    session, without_system(turns)
                )
        return False

    async def _refuses(self, session: ClientSession, turns: list[dict[str, str]]) -> bool:
        payload = {"model": self.model, "messages": turns, "max_tokens": 1, "temperature": 0}
        async with session.post(self.base_url, json=payload, allow_redirects=False) as answer:
            return answer.status in _REFUSED

    def _names(self, sent: list[Any]) -> list[str]:
        return [canonical_json(json.loads(request.args[0].prompt)) for request in sent]

    def _create_payload(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        payload: dict[str, Any] = super()._create_payload(*args, **kwargs)
        if payload["temperature"] > 0:
            payload["seed"] = self._seeds.first(canonical_json(payload["messages"]))
        if not payload.pop(_PLAINLY, False) and self._neutral:
            payload = _GREEDY | payload if payload["temperature"] == 0 else _SAMPLED | payload
        if not any(payload.get("stop") or []):
            payload.pop("stop", None)  # an empty stop string is refused by some servers
        if self.folds_system:
            payload["messages"] = without_system(payload["messages"])
        if payload["messages"][-1]["role"] == "assistant":
            payload |= {"continue_final_message": True, "add_generation_prompt": False}
        if self._hosted:
            payload["max_completion_tokens"] = payload.pop("max_tokens")
        return payload | self._effort.request_parameters()

    async def amodel_call(self, *args: Any, **kwargs: Any) -> Any:
        """Send one request; a refusal is this item's outcome, lm-eval retries other errors."""
        with_words = self._neutral
        try:
            return await super().amodel_call(*args, **kwargs)
        except ClientResponseError as error:
            if error.status in {401, 403}:
                wanted = credential(self.base_url)
                raise ModelError(f"{self.base_url} {wanted} (HTTP {error.status})") from error
            if error.status not in _REFUSED:
                raise
            if with_words and error.status in _UNKNOWN_WORDS:
                with suppress(ClientResponseError):  # then it was refused for its own sake
                    plainly = {**kwargs, "gen_kwargs": {**kwargs["gen_kwargs"], _PLAINLY: True}}
                    answer = await super().amodel_call(*args, **plainly)
                    self._neutral = False
                    return answer
            reason = f"the server refused the request (HTTP {error.status})"
            self.cache_hook.announce([RawResponse(reason=reason)])
            for key in kwargs["cache_keys"]:
                self.cache_hook.add_partial("generate_until", key, "")
            return [""]

    def parse_generations(self, outputs: Any, **kwargs: Any) -> list[str]:
        """Read a reply and announce how it ended, before lm-eval hands its text on."""
        answer = outputs if isinstance(outputs, dict) else {}
        tokens = tokens_of(answer.get("usage"))
        content = thinking = finish = None
        with suppress(TypeError, IndexError, KeyError, AttributeError):
            choice = answer["choices"][0]
            finish = choice.get("finish_reason")
            content = choice["message"]["content"]
            thinking = given_thinking(choice["message"])
        if not isinstance(content, str):
            content = "" if thinking or finish == "length" else None
        if content is not None:
            content = marked(content, apart=thinking, finish=finish)
            # One that ended by itself is an answer: the server may drop what was thought.
            if thinking is None and finish == "length":
                content = continued(self._prompt_end, content)
        ended = RawResponse(
            reason=None if content is not None else f"the server sent no text ({finish})",
            finish_reason=FINISHED.get(str(finish)),
            thinking=thinking,
            prompt_tokens=tokens.prompt,
            response_tokens=tokens.completion,
            thinking_tokens=tokens.thinking or None,
        )
        self.cache_hook.announce([ended])
        return [content or ""]
