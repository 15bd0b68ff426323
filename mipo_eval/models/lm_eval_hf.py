"""lm-eval's `hf` model, keeping why each response ended and refusing prompts it would cut."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.utils.logging import disable_progress_bar

from mipo_eval.checkpoints import Checkpoint
from mipo_eval.models.raw_response import RawResponse
from mipo_eval.models.recording import Recording
from mipo_eval.models.thinking import decoded
from mipo_eval.models.thinking_budget import budgets
from mipo_eval.models.weights import draw_neutrally, with_adapter

_CHOSEN = ("temperature", "top_p", "top_k", "min_p")
"""The settings that `_Draw` follows; what else there is, `generate` does before."""


class RecordingHFLM(Recording, HFLM):  # type: ignore[misc]
    """HFLM that tells how each response ended."""

    _model: Any
    _largest_batch: int | None = None
    _contexts: Sequence[str] = ()

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        seed: int = 0,
        thinking_budget: int | None = None,
        **kwargs: Any,
    ) -> None:
        disable_progress_bar()
        checkpoint.require_loadable()
        self._checkpoint = checkpoint
        own = {"tokenizer": str(checkpoint.tokenizer)} if checkpoint.adapter else {}
        super().__init__(str(checkpoint.folder), **own, **kwargs)
        draw_neutrally(self.model)
        self._budget = thinking_budget
        self._record(seed)

    def _create_model(self, *args: Any, **kwargs: Any) -> None:
        super()._create_model(*args, **kwargs)
        self._model = with_adapter(self._model, self._checkpoint)

    def _detect_batch_size(self, requests: Any = None, pos: int = 0) -> int:
        # lm-eval would search again for every chunk.
        if self._largest_batch is None:
            self._largest_batch = int(super()._detect_batch_size(requests, pos))
        return self._largest_batch

    def tok_batch_encode(self, strings: Sequence[str], *args: Any, **kwargs: Any) -> Any:
        """Tokenise a batch, and keep which contexts its rows are (lm-eval's name)."""
        self._contexts = strings
        return super().tok_batch_encode(strings, *args, **kwargs)

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
        """Decode what was written, with the marks of thinking in it (lm-eval's name)."""
        if skip_special_tokens and isinstance(tokens, list):
            return decoded(self.tokenizer, tokens)
        text: str = super().tok_decode(tokens, skip_special_tokens=skip_special_tokens)
        return text

    def _model_call(self, *args: Any, **kwargs: Any) -> Any:
        self.cache_hook.flush()  # what the batch before has shown
        return super()._model_call(*args, **kwargs)

    def _model_generate(self, context: Any, max_length: int, stop: list[str], **kwargs: Any) -> Any:
        self.cache_hook.flush()  # the batch before
        processors = LogitsProcessorList([_Beat(self.cache_hook.write)])
        if kwargs.get("do_sample"):
            chosen = {name: kwargs.pop(name) for name in _CHOSEN if name in kwargs}
            kwargs |= self._drawing(**chosen)
            processors += kwargs.pop("logits_processor")
        # Last: what must be written is not drawn.
        processors += budgets(self.tokenizer, self._budget, context) or []
        kwargs["logits_processor"] = processors
        tokens = super()._model_generate(context, max_length, stop, **kwargs)
        start = context.shape[1]
        prompt_tokens = _unpadded(context, self.tokenizer.pad_token_id)
        self.cache_hook.announce(
            self._ended(row[start:].tolist(), stop, room=max_length - start, prompt_tokens=n)
            for row, n in zip(tokens, prompt_tokens, strict=True)
        )
        return tokens

    def _drawing(self, **chosen: Any) -> dict[str, Any]:
        """Return what makes `generate` take each row's own draw as if it were the likeliest."""
        seeds = [self._seeds.take(context) for context in self._contexts]
        draw = LogitsProcessorList([_Draw(seeds, **chosen)])
        return {"do_sample": False, "temperature": 0.0, "logits_processor": draw}

    def _ended(
        self, row: list[int], stop: list[str], *, room: int, prompt_tokens: int
    ) -> RawResponse:
        """Tell a row that stopped by itself from one that ran out of room."""
        configured = self.model.generation_config.eos_token_id
        ends = {*(configured if isinstance(configured, list) else [configured]), self.eot_token_id}
        ends.add(self.tokenizer.pad_token_id)
        length = next((i for i, token in enumerate(row) if token in ends), len(row))
        stopped = length < room or any(s and s in self.tok_decode(row) for s in stop)
        return RawResponse(
            finish_reason="stop" if stopped else "length",
            prompt_tokens=prompt_tokens,
            response_tokens=length,
        )


class _Beat(LogitsProcessor):  # type: ignore[misc]
    """Tells of each token, and changes nothing: on a processor a batch may take minutes."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores as they are."""
        self._tell()
        return scores


class _Draw(LogitsProcessor):  # type: ignore[misc]
    """Draws each row's next token with random numbers of its own, and leaves it the only choice.

    A token is found where the cumulative probabilities pass a uniform number, one per step and
    row: what other rows there are changes nothing.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        temperature: float,
        top_p: float = 1.0,
        top_k: int = 0,
        min_p: float = 0.0,
    ) -> None:
        self._streams = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._temperature, self._top_p = temperature, top_p
        self._top_k, self._min_p = top_k, min_p

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return (rows, vocabulary) scores: 0 for the drawn token, -inf for all others."""
        logits = scores.double() / self._temperature
        if 0 < self._top_k < logits.shape[1]:  # first, as in transformers and vLLM
            least = logits.topk(self._top_k, dim=1).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        likely = logits.softmax(dim=1)
        if self._min_p:
            likely = likely.masked_fill(likely < self._min_p * likely.amax(dim=1, keepdim=True), 0)
            likely = likely / likely.sum(dim=1, keepdim=True)
        if self._top_p < 1:
            ordered, order = likely.sort(dim=1, descending=True)
            outside = ordered.cumsum(dim=1) - ordered >= self._top_p
            likely = likely.scatter(1, order, ordered.masked_fill(outside, 0.0))
        below = likely.cumsum(dim=1)
        uniform = torch.cat([torch.rand(1, generator=s, dtype=below.dtype) for s in self._streams])
        wanted = uniform.to(below.device)[:, None] * below[:, -1:]
        drawn = torch.searchsorted(below, wanted, right=True).clamp(max=below.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)


def _unpadded(context: torch.Tensor, pad: int | None) -> list[int]:
    """Return the prompt lengths of a left-padded batch, (batch, tokens)."""
    width = context.shape[1]
    if pad is None:
        return [width] * context.shape[0]
    # Only leading pads count: the pad token may also be the end token inside a prompt.
    leading = (context == pad).int().cumprod(dim=1).sum(dim=1)
    return [width - int(n) for n in leading]
