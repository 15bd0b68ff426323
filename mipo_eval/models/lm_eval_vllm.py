"""lm-eval's in-process `vllm` model, keeping why each response ended."""

import atexit
import weakref
from typing import Any

from lm_eval.models.vllm_causallms import VLLM

from mipo_eval.checkpoints import Checkpoint
from mipo_eval.models.raw_response import FINISHED, RawResponse
from mipo_eval.models.recording import Recording
from mipo_eval.models.thinking import decoded
from mipo_eval.models.vllm import adapter_arguments, on_processor, own_dtype


class RecordingVLLM(Recording, VLLM):  # type: ignore[misc]
    """VLLM that tells how each response ended."""

    def __init__(self, checkpoint: Checkpoint, *, seed: int = 0, **kwargs: Any) -> None:
        own = {"dtype": own_dtype(checkpoint), **on_processor(), **adapter_arguments(checkpoint)}
        if checkpoint.adapter:
            own |= {"lora_local_path": str(checkpoint.adapter)}
            own |= {"tokenizer": str(checkpoint.tokenizer)}
        super().__init__(str(checkpoint.folder), seed=seed, **own | kwargs)
        self._record(seed)
        # The engine is a process that the interpreter would wait for at its end, for ever.
        atexit.register(_shut_down, weakref.ref(self.model.llm_engine.engine_core))

    def close(self) -> None:
        """Stop the engine, which holds most of the GPU's memory."""
        self.model.llm_engine.engine_core.shutdown()

    @staticmethod
    def modify_gen_kwargs(*args: Any, **kwargs: Any) -> tuple[dict[str, Any], list[str], int]:
        """Leave special tokens out of the text, as `hf` and servers do.

        lm-eval keeps them to find the end in the text; vLLM ends at the token itself.
        """
        settings, until, max_gen_toks = VLLM.modify_gen_kwargs(*args, **kwargs)
        return settings | {"skip_special_tokens": True}, until, max_gen_toks

    def _names(self, sent: list[Any]) -> list[str]:
        return [str(tokens) for tokens in self.tok_encode(super()._names(sent))]

    def _model_generate(
        self, requests: Any, generate: bool = False, sampling_params: Any = None
    ) -> Any:
        self.cache_hook.flush()  # the batch before
        if generate and sampling_params:
            for tokens, sampling in zip(requests, sampling_params, strict=True):
                if sampling.temperature > 0:
                    sampling.seed = self._seeds.take(str(tokens))
        outputs = super()._model_generate(requests, generate, sampling_params)
        for output in outputs if generate else ():
            for answer in output.outputs:  # vLLM leaves marks of thinking out that are tokens
                answer.text = decoded(self.tokenizer, answer.token_ids, answer.text)
        self.cache_hook.announce(
            RawResponse(
                finish_reason=FINISHED.get(output.outputs[0].finish_reason),
                prompt_tokens=len(output.prompt_token_ids),
                response_tokens=len(output.outputs[0].token_ids),
            )
            for output in outputs
        )
        return outputs


def _shut_down(engine: "weakref.ref[Any]") -> None:
    running = engine()
    if running is not None:
        running.shutdown()
