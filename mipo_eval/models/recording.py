"""What our subclasses of lm-eval's models share: each completion is handed on as it is made.

lm-eval returns the texts of a chunk together, minutes or hours after the first was there. But it
shows each one to its response cache at once, and `CompletionHook` stands in that place.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from mipo_eval.errors import ChatTemplateError, ModelError
from mipo_eval.keys import digest
from mipo_eval.models.raw_response import RawResponse

Completion = tuple[Any, RawResponse | tuple[float, bool]]
"""An lm-eval instance, and its response or how likely its continuation is."""


class Refused(str):
    """Stands where a prompt should: why the chat template refuses the conversation."""

    __slots__ = ()


class CompletionHook:
    """Stands where lm-eval keeps its response cache, and sees each completion as it is made.

    Models announce how a completion ended (`announce`) just before lm-eval hands its text to the
    cache (`add_partial`), in the same order: the two together are one outcome. Requests with equal
    prompts get their completions in order.

    Args:
        each: hand every completion on at once, not a batch when the next begins: for models whose
            answers come one by one.
    """

    def __init__(self, *, each: bool = False) -> None:
        self._each = each
        self._announced: deque[RawResponse] = deque()
        self._expected: defaultdict[tuple[str, ...], deque[Any]] = defaultdict(deque)
        self._ready: list[Completion] = []
        self._take: Callable[[list[Completion]], None] = lambda _: None
        self._beat: Callable[[], None] = lambda: None
        self.written = 0
        """Tokens that each row of the batch at work has, where the model tells."""

    def begin(
        self, take: Callable[[list[Completion]], None], beat: Callable[[], None] = lambda: None
    ) -> None:
        """Hand what comes from now on to `take`, and call `beat` whenever there is a token more."""
        self._take, self._beat, self._ready = take, beat, []
        self._announced.clear()
        self._expected.clear()

    def expect(self, requests: Iterable[Any]) -> None:
        """Take the requests (lm-eval instances) that the model is going to complete."""
        for request in requests:
            self._expected[_prompt(request.request_type, request.args)].append(request)

    def announce(self, outcomes: Iterable[RawResponse]) -> None:
        """Queue how the next completions ended; their texts follow."""
        self.written = 0
        self._announced.extend(outcomes)

    def write(self) -> None:
        """Note that each row of the batch has a token more."""
        self.written += 1
        self._beat()

    def refuse(self, request: Any, outcome: RawResponse) -> None:
        """Take the outcome of a request that is not sent."""
        self._ready.append((request, outcome))

    def add_partial(self, attr: str, request: Any, answer: Any) -> None:
        """Take a text, or how likely a continuation is (lm-eval's name and signature)."""
        if attr == "generate_until":
            how = self._announced.popleft() if self._announced else RawResponse()
            answer = how if how.reason else replace(how, text=answer)
        if waiting := self._expected.get(_prompt(attr, request)):
            self._ready.append((waiting.popleft(), answer))
        if self._each:
            self.flush()

    def flush(self) -> None:
        """Hand on what is there."""
        ready, self._ready = self._ready, []
        if ready:
            self._take(ready)


def _prompt(attr: str, arguments: Sequence[Any]) -> tuple[str, ...]:
    """Return what tells requests apart: the prompt, and the continuation where one is scored."""
    return tuple(map(str, arguments[: 1 if attr == "generate_until" else 2]))


class Watched:
    """Goes before any of lm-eval's classes: its completions are handed on as they are made."""

    cache_hook: CompletionHook

    def generate_until(self, requests: list[Any], **options: Any) -> list[str]:
        """Generate (lm-eval's name and signature)."""
        self.cache_hook.expect(requests)
        texts: list[str] = super().generate_until(requests, **options)  # type: ignore[misc]
        return texts

    def loglikelihood(self, requests: list[Any], **options: Any) -> list[tuple[float, bool]]:
        """Score continuations (lm-eval's name and signature)."""
        self.cache_hook.expect(requests)
        scored: list[tuple[float, bool]] = super().loglikelihood(requests, **options)  # type: ignore[misc]
        return scored


def _refusal(request: Any) -> RawResponse | None:
    """Return the outcome of a request that has no prompt, or None."""
    prompt = request.args[0]
    return RawResponse(reason=str(prompt), final=True) if isinstance(prompt, Refused) else None


class Recording(Watched):
    """What our own subclasses have beside that; goes before lm-eval's class."""

    def _record(self, seed: int) -> None:
        """Begin to record; last in `__init__`."""
        self.cache_hook = CompletionHook()
        self._seeds = Seeds(seed)
        self.add_bos_token = False  # the template's affair: see `models.chat`

    def apply_chat_template(self, *args: Any, **kwargs: Any) -> Any:
        """Return a conversation as the model reads it (lm-eval's name), or why it cannot."""
        try:
            return super().apply_chat_template(*args, **kwargs)  # type: ignore[misc]
        except ChatTemplateError as error:
            return Refused(error)

    def _names(self, sent: list[Any]) -> list[str]:
        """Return what the model sees of each request, by which it takes its seed."""
        return [str(request.args[0]) for request in sent]

    def generate_until(self, requests: list[Any], **_: Any) -> list[str]:
        """Generate for the requests that fit, and record (lm-eval's name and signature)."""
        refused = [_refusal(request) or self._too_long(request) for request in requests]
        for request, no in zip(requests, refused, strict=True):
            if no:
                self.cache_hook.refuse(request, no)
        sent = [request for request, no in zip(requests, refused, strict=True) if no is None]
        texts = iter(self._generate(sent) if sent else [])
        return [next(texts) if no is None else "" for no in refused]

    def loglikelihood(self, requests: list[Any], **_: Any) -> list[tuple[float, bool]]:
        """Score continuations, without lm-eval's own bar."""
        if no := next(filter(None, map(_refusal, requests)), None):
            raise ModelError(str(no.reason))
        return super().loglikelihood(requests, disable_tqdm=True)

    def count_tokens(self: Any, text: str) -> int | None:
        """Return how many tokens a text has; None where only a server knows."""
        if self.tokenizer is None:
            return None
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _generate(self, sent: list[Any]) -> list[str]:
        self._seeds.expect(sent, self._names(sent))
        return super().generate_until(sent, disable_tqdm=True)

    def _too_long(self: Any, request: Any) -> RawResponse | None:
        """Return the outcome of a request that must not be sent, or None."""
        context, arguments = request.args
        tokens = len(self.tok_encode(context))
        if tokens + int(arguments.get("max_gen_toks", self.max_gen_toks)) <= self.max_length:
            return None
        reason = "prompt longer than the model's context"
        return RawResponse(reason=reason, final=True, prompt_tokens=tokens)


class Seeds:
    """Hands out the seeds of the requests a model is working on, by what it sees of them."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._waiting: defaultdict[str, deque[int]] = defaultdict(deque)

    def expect(self, requests: Iterable[Any], names: Iterable[str]) -> None:
        """Take the requests (lm-eval instances) to be generated for, and the prompt of each."""
        self._waiting.clear()
        for request, name in zip(requests, names, strict=True):
            self._waiting[name].append(item_seed(self._seed, str(request.doc["item_key"])))

    def take(self, name: str) -> int:
        """Return the seed of the next request with this prompt; equal prompts come in order."""
        return self._waiting[name].popleft()


def item_seed(seed: int, item_key: str) -> int:
    """Return the seed of one item's draw, 0 to 2^31 - 1, which every engine takes."""
    return int(digest([seed, item_key])[:8], 16) >> 1
