"""A served model under evaluation: lm-eval's tasks, asked by the backends that ask judges.

lm-eval makes the prompts; who asks, how often, how fast and for how much money is the same for a
model as for a judge (`server`). What the server does not take is left out, and signed.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from mipo_eval.errors import ConfigError, ModelError
from mipo_eval.models.base import (
    Failure,
    Limits,
    Message,
    Purse,
    Reply,
    Request,
    Sampling,
    why_failed,
)
from mipo_eval.models.callable import CallableBackend
from mipo_eval.models.chat import without_system
from mipo_eval.models.drawing import OWN
from mipo_eval.models.effort import Effort
from mipo_eval.models.lm_eval import Decoding, Keep, LoadedModel, ModelOptions, begun
from mipo_eval.models.openai import NEUTRAL, OpenAIBackend
from mipo_eval.models.raw_response import FINISHED, RawResponse
from mipo_eval.models.recording import item_seed
from mipo_eval.models.served_prompt import served_prompt_end
from mipo_eval.models.server import ServedBackend
from mipo_eval.models.spec import KINDS, ModelSpec, is_private, load_backend
from mipo_eval.models.thinking import continued, marked
from mipo_eval.records import Response

_TIMEOUT = 300.0
"""Seconds for one try: responses are longer than verdicts."""
_MOST_STOPS = 4
"""Texts that end a reply; OpenAI takes no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawRequest(Request):
    """A request for a response, which knows its item and its prompt as lm-eval has it."""

    document: Mapping[str, Any]
    prompt: str

    @property
    def item_key(self) -> str:
        """The key of the item."""
        return str(self.document["item_key"])


def serving(
    model: ModelSpec,
    settings: Mapping[str, Any],
    *,
    purse: Purse | None = None,
    batch: bool = False,
) -> ServedBackend | CallableBackend | None:
    """Return what asks a served model; None for one that runs in this process.

    Args:
        model: who is asked.
        settings: `ENGINE_SETTINGS` of a served model, as far as they are given.
        purse: money, which others may share.
        batch: ask through the provider's batch service, where there is one.

    Raises:
        ConfigError: a limit is no limit, or money is limited and the price unknown.
    """
    if model.backend is None:
        return None
    names = {"num_concurrent": "concurrency", "max_retries": "attempts"}
    given = {names.get(name, name): value for name, value in settings.items()}
    if wrong := next((name for name, value in settings.items() if not value > 0), None):
        raise ConfigError(f"--engine {wrong}={settings[wrong]}: it must be above 0")
    limits = Limits(**{"timeout": _TIMEOUT, "purse": purse, **given})
    kind = KINDS.get(model.engine)
    has_batches = kind and kind.batch and not is_private(model.url or "")
    backend = load_backend(
        model.backend, limits=limits, batch=bool(batch and has_batches), flag="--model"
    )
    if not isinstance(backend, ServedBackend | CallableBackend):
        raise ConfigError(
            f"{model.name} can only judge: to be evaluated, a plug-in's backend must be a "
            "mipo_eval.models.callable.CallableBackend"
        )
    return backend


def load_served(model: ModelSpec, options: ModelOptions, decoding: Decoding) -> "ServedModel":
    """Return a served model, once its server said that it has it.

    Raises:
        BackendError: it cannot be reached, wants a key, or does not serve the model.
    """
    backend = options.backend or serving(model, options.arguments)
    assert backend is not None
    asyncio.run(backend.check())
    return ServedModel(backend, decoding, system=options.system, effort=options.effort)


class ServedModel(LoadedModel):
    """A model at a server, asked with our tasks.

    Args:
        backend: what asks it.
        decoding: how responses are drawn.
        system: what it is told before every conversation.
        effort: how much it is let think.
    """

    def __init__(
        self,
        backend: ServedBackend | CallableBackend,
        decoding: Decoding,
        *,
        system: str = "",
        effort: Effort,
    ) -> None:
        super().__init__(None, decoding, system)
        self.backend = backend
        self._effort = effort
        open_ = isinstance(backend, OpenAIBackend) and not backend.official
        self.continues = open_
        """Whether it can be asked to go on with a turn that has begun: OpenAI would answer it."""
        self._folds_system: bool | None = None if open_ else False
        """Whether system prompts stand before the first user turn; None until one is to be sent."""
        url = backend.urls[0] if open_ and isinstance(backend, OpenAIBackend) else ""
        self._prompt_end = served_prompt_end(url, backend.model, effort) if url else ""
        self._further = self._drawing(open_)

    def _drawing(self, knows_neutral: bool) -> dict[str, Any]:
        asked = {name: value for name, value in self._decoding.further.items() if name != OWN}
        is_drawn = self._decoding.temperature > 0
        if is_drawn and (self._decoding.top_p < 1 or isinstance(self.backend, OpenAIBackend)):
            asked = {"top_p": self._decoding.top_p, **asked}
        if not knows_neutral or OWN in self._decoding.further:
            return asked
        words = NEUTRAL if is_drawn else {"repetition_penalty": NEUTRAL["repetition_penalty"]}
        return {**words, **asked}

    def remark(self) -> str:
        """Return what is to be known of how the model is asked; shown with the progress."""
        folded = "no system role: its text stands before the first user turn"
        parts = (self._money(), self.backend.usage.waiting, folded if self._folds_system else "")
        return "  ".join(part for part in parts if part)

    def _money(self) -> str:
        return f"${self.backend.usage.cost:.4f}" if self.backend.usage.cost else ""

    def apply_chat_template(
        self, turns: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> Any:
        """Return a conversation as it is sent (lm-eval's name and form)."""
        from lm_eval.models.api_models import JsonChatStr

        return JsonChatStr(json.dumps(turns, ensure_ascii=False))

    def ask(
        self,
        task: Any,
        positions: Sequence[int],
        keep: Keep = lambda _: None,
        beat: Callable[[], None] = lambda: None,
    ) -> list[Response]:
        """Return the responses to the documents of a task at these positions, in their order.

        By this process alone; `evaluation.generate` shares the work with others and stores it.
        """
        asked = self.requests(task, positions)

        async def outcomes() -> dict[int, Response]:
            made = {}
            async with aclosing(self.backend.answer(asked)) as answers:
                async for request, outcome in answers:
                    assert isinstance(request, DrawRequest)
                    made[id(request)] = self.response(request, outcome)
                    keep([made[id(request)]])
                    beat()
            return made

        found = asyncio.run(outcomes())
        return [found[id(one)] for one in asked]

    def requests(self, task: Any, positions: Sequence[int]) -> list[DrawRequest]:
        """Return what the documents of a task at these positions are asked, in their order.

        Raises:
            ModelError: the task asks how likely a text is, which servers do not tell.
        """
        if task.OUTPUT_TYPE != "generate_until":
            raise ModelError(
                f"{task.config.task} needs the likelihood of each option, which the server of "
                f"{self.backend.model} does not give: use hf:PATH or vllm:PATH"
            )
        task.build_all_requests(
            samples=list(positions),
            system_instruction=self._system or None,
            apply_chat_template=True,
            fewshot_as_multiturn=(task.config.metadata or {}).get("turns", True),
            chat_template=self.apply_chat_template,
        )
        asked = [self._request(instance) for instance in task.instances]
        if self._folds_system is None and any(one.messages[0].role == "system" for one in asked):
            self._folds_system = asyncio.run(self._lacks_system_role())
        return [self._folded(one) for one in asked] if self._folds_system else asked

    def _request(self, instance: Any) -> DrawRequest:
        chat, how = instance.args
        until = how.get("until") or []
        stop = [until] if isinstance(until, str) else until
        seed, drawn = self._decoding.seed, self._decoding.temperature > 0
        sampling = Sampling(
            temperature=self._decoding.temperature,
            max_tokens=self._decoding.max_tokens,
            seed=item_seed(seed, str(instance.doc["item_key"])) if drawn else seed,
            effort=self._effort,
            further=self._further,
            stop=tuple(text for text in stop[:_MOST_STOPS] if text),
        )
        return DrawRequest(
            messages=tuple(Message(**turn) for turn in json.loads(chat.prompt)),
            sampling=sampling,
            as_it_comes=True,
            document=instance.doc,
            prompt=str(chat),
        )

    @staticmethod
    def _folded(request: DrawRequest) -> DrawRequest:
        turns = [{"role": turn.role, "content": turn.content} for turn in request.messages]
        folded = without_system(turns)
        return replace(request, messages=tuple(Message(**turn) for turn in folded))  # type: ignore[arg-type]

    async def _lacks_system_role(self) -> bool:
        """Whether the server refuses a system turn, and nothing else about a short conversation."""
        hello = Message(role="user", content="Hello.")
        told = (Message(role="system", content="Be brief."), hello)
        folded = (Message(role="user", content="Be brief.\n\nHello."),)
        return await self._refuses(told) and not await self._refuses(folded)

    async def _refuses(self, messages: tuple[Message, ...]) -> bool:
        asked = Request(messages=messages, sampling=Sampling(max_tokens=1), as_it_comes=True)
        async with aclosing(self.backend.answer([asked])) as answers:
            async for _, outcome in answers:
                return isinstance(outcome, Failure) and outcome.kind == "bad_request"
        return False

    def response(self, request: DrawRequest, outcome: Reply | Failure) -> Response:
        """Return what came of a request."""
        if isinstance(outcome, Failure):
            ended = RawResponse(reason=why_failed(outcome.kind))
        else:
            ended = self._ended(outcome)
        read = ended.read(request.item_key, request.prompt, lambda _: None)
        return begun(read, request.document)

    def _ended(self, reply: Reply) -> RawResponse:
        text = marked(reply.text, apart=reply.thinking, finish=reply.finish_reason)
        # One that ended by itself is an answer: the server may drop what was thought.
        if reply.thinking is None and reply.cut:
            text = continued(self._prompt_end, text)
        return RawResponse(
            text=text,
            finish_reason=FINISHED.get(str(reply.finish_reason)),
            thinking=reply.thinking,
            prompt_tokens=reply.prompt_tokens,
            response_tokens=reply.completion_tokens,
            thinking_tokens=reply.thinking_tokens,
        )
