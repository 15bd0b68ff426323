"""A judge model in this process, through vLLM: thousands of verdicts a minute on one GPU."""

import atexit
import importlib.util
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from mipo_eval.checkpoints import Checkpoint
from mipo_eval.errors import BackendError, ModelError
from mipo_eval.models.base import Failure, Reply, Request
from mipo_eval.models.chat import with_chat_form
from mipo_eval.models.hf import CheckpointBackend, Outcome, PromptRow
from mipo_eval.models.thinking import written

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as the largest rank of adapters."""


class VllmBackend(CheckpointBackend):
    """Asks a checkpoint through vLLM, with its own chat template and prefix caching.

    Answers with choices are constrained to them while they are written.

    Args:
        model: as in `CheckpointBackend`.
        tensor_parallel_size: GPUs one copy of the model is spread over.
        max_model_len: context in tokens, to save memory; default the model's own.
        dtype: precision of weights and sums; default the checkpoint's.
    """

    window = 4096  # enough to keep a GPU busy, little enough to hold in memory

    def __init__(
        self,
        model: str,
        *,
        tensor_parallel_size: int = 1,
        max_model_len: int | None = None,
        dtype: str = "auto",
    ) -> None:
        super().__init__(model)
        self._dtype = own_dtype(self.checkpoint) if dtype == "auto" else dtype
        self._tensor_parallel_size = tensor_parallel_size
        self._max_model_len = max_model_len

    @cached_property
    def identity(self) -> Mapping[str, str]:
        """The checkpoint by its content, and how it is run."""
        return self._identity("vllm", dtype=self._dtype)

    async def check(self) -> None:
        """Find out, without loading the weights, whether the checkpoint can judge here."""
        if importlib.util.find_spec("vllm") is None:
            raise BackendError("vLLM is not installed here: pip install 'mipo-eval[vllm]'")
        await super().check()

    def _row(self, request: Request) -> PromptRow | Failure:
        room = self._llm.llm_engine.model_config.max_model_len
        prompt = self._prompt(request, request.sampling.max_tokens, room)
        return prompt if isinstance(prompt, Failure) else PromptRow(request, prompt)

    def _run(self, batch: list[PromptRow]) -> list[Outcome]:
        outputs = self._llm.generate(
            [{"prompt_token_ids": row.prompt} for row in batch],
            [_parameters(row.request, held=self._is_held(row)) for row in batch],
            use_tqdm=False,
            lora_request=self._adapter,
        )
        return [
            (row.request, self._reply(row, out)) for row, out in zip(batch, outputs, strict=True)
        ]

    def _reply(self, row: PromptRow, output: Any) -> Reply:
        answer = output.outputs[0]
        return Reply(
            text=answer.text if self._is_held(row) else self._written(row, answer),
            finish_reason=answer.finish_reason,
            model=self.name,
            prompt_tokens=len(output.prompt_token_ids),
            completion_tokens=len(answer.token_ids),
            logprobs=_first_token(answer.logprobs),
        )

    def _is_held(self, row: PromptRow) -> bool:
        """Whether a row is held to its choices, from its first token on.

        It is not where the template begins a thinking: what comes next is no answer yet.
        """
        return bool(row.request.choices) and not written(self._tokenizer, row.prompt, ())

    def _written(self, row: PromptRow, answer: Any) -> str:
        return written(self._tokenizer, row.prompt, answer.token_ids, answer.text)

    @cached_property
    def _adapter(self) -> Any:
        if self.checkpoint.adapter is None:
            return None
        from vllm.lora.request import LoRARequest

        return LoRARequest("adapter", 1, str(self.checkpoint.adapter))

    @cached_property
    def _tokenizer(self) -> Any:
        return with_chat_form(self._llm.get_tokenizer())

    @cached_property
    def _llm(self) -> Any:
        from vllm import LLM

        llm = LLM(
            model=str(self.checkpoint.folder),
            tokenizer=str(self.checkpoint.tokenizer),
            **adapter_arguments(self.checkpoint),
            **on_processor(),
            tensor_parallel_size=self._tensor_parallel_size,
            max_model_len=self._max_model_len,
            dtype=self._dtype,
            enable_prefix_caching=True,
            trust_remote_code=False,
        )
        # The engine is a process that the interpreter would wait for at its end, for ever.
        atexit.register(llm.llm_engine.engine_core.shutdown)
        return llm


def own_dtype(checkpoint: Checkpoint) -> str:
    """Return the precision a checkpoint says it has; vLLM's own choice halves float32."""
    return str(checkpoint.config.get("dtype") or checkpoint.config.get("torch_dtype") or "auto")


def on_processor() -> dict[str, Any]:
    """Return what vLLM's engine is told where it runs on a processor.

    Prompts that are too many to be read at once are else read in parts, after which vLLM sets the
    random numbers of a seeded request back: those of a processor cannot be, and the engine ends.
    """
    from vllm.platforms import current_platform

    return {"enable_chunked_prefill": False} if current_platform.is_cpu() else {}


def adapter_arguments(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what vLLM's engine is told of a checkpoint's adapter.

    Raises:
        ModelError: vLLM does not run adapters of its kind.
    """
    if checkpoint.adapter is None:
        return {}
    how = checkpoint.adapter_config
    kind, ranks = how.get("peft_type"), [how.get("r"), *how.get("rank_pattern", {}).values()]
    rank = max((rank for rank in ranks if isinstance(rank, int)), default=0)
    if kind != "LORA" or how.get("use_dora") or rank > _RANKS[-1]:
        what = "DoRA" if how.get("use_dora") else f"{kind} of rank {rank}"
        raise ModelError(
            f"vLLM cannot run the adapter {checkpoint.name} ({what}, not LoRA of rank "
            f"{_RANKS[-1]} at most): use hf:{checkpoint.name}, or merge it into its base"
        )
    return {"enable_lora": True, "max_lora_rank": next(one for one in _RANKS if one >= rank)}


def _parameters(request: Request, *, held: bool) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    sampling = request.sampling
    choices = StructuredOutputsParams(choice=list(request.choices or ())) if held else None
    return SamplingParams(
        temperature=1.0 if sampling.temperature is None else sampling.temperature,
        max_tokens=sampling.max_tokens,
        seed=sampling.seed,
        logprobs=sampling.logprobs or None,
        structured_outputs=choices,
    )


def _first_token(logprobs: Any) -> tuple[tuple[str, float], ...] | None:
    """Return the first token's alternatives, likeliest first."""
    if not logprobs:
        return None
    found = sorted(logprobs[0].values(), key=lambda entry: -entry.logprob)
    return tuple((entry.decoded_token or "", entry.logprob) for entry in found)
