"""The seam to lm-eval: a model under evaluation is loaded into it and asked chunk by chunk.

lm-eval's models return texts only, and draw from one stream of random numbers for a whole batch, so
that a response depends on its neighbours. Our subclasses (`lm_eval_hf`, `lm_eval_served`,
`lm_eval_vllm`) share `Recording`: it keeps why each response ended and how long it was, leaves
prompts alone that lm-eval would cut, and hands every request a seed of its own, digested from the
decoding's seed and the item's key. So the same item gets the same draw, in any batch, order or
process.
"""

import asyncio
import gc
import inspect
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib import import_module, resources
from pathlib import Path
from typing import Any

from mipo_eval.checkpoints import NEUTRAL, SAMPLING
from mipo_eval.errors import ConfigError, ModelError
from mipo_eval.keys import canonical_json, digest
from mipo_eval.models.spec import OPENAI_URL, ModelSpec, load_backend
from mipo_eval.records import FinishReason, Response, clean_text
from mipo_eval.settings import silence_libraries
from mipo_eval.threads import fit_threads

_RECORDING = {
    "hf": ("mipo_eval.models.lm_eval_hf", "RecordingHFLM", "hf"),
    "vllm": ("mipo_eval.models.lm_eval_vllm", "RecordingVLLM", "vllm"),
    "openai": ("mipo_eval.models.lm_eval_served", "RecordingChatCompletion", "hf"),
}
"""Engine to module, class and the extra that installs what they need."""
_CONCURRENT_REQUESTS = 32
_CPU_BATCH = 16
OWN = "generation_config"
"""The setting of `--decoding` that asks for the checkpoint's own drawing."""
_ALL_DRAW_BY = {"temperature", "top_p", "top_k", "min_p", "repetition_penalty"}
_DRAWN_BY: Mapping[str, set[str]] = {
    "hf": _ALL_DRAW_BY
    | {"no_repeat_ngram_size", "min_new_tokens", "exponential_decay_length_penalty"}
    | {"bad_words_ids", "sequence_bias", "suppress_tokens", "begin_suppress_tokens"}
    | {"encoder_repetition_penalty", "remove_invalid_values", "forced_eos_token_id"},
    "vllm": _ALL_DRAW_BY,
}
"""What engines can follow of a generation_config."""
DEFAULT_MAX_TOKENS = 256
"""Room for the two to three sentences the query asks for, generously."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How responses are drawn. Temperature 0 is greedy decoding."""

    max_tokens: int = DEFAULT_MAX_TOKENS
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    further: Mapping[str, Any] = field(default_factory=dict)
    """What else changes the choice of tokens (top_k, repetition_penalty, ...), in transformers'
    words. Empty: nothing does, whatever the checkpoint's own generation_config.json says."""

    def describe(self) -> str:
        """Return the decoding as a signature shows it."""
        how = "greedy" if self.temperature == 0 else f"t{self.temperature:g}-p{self.top_p:g}"
        also = (f"-{name}={_shown(value)}" for name, value in sorted(self.further.items()))
        return f"{how}-{self.max_tokens}{''.join(also)}"

    def gen_kwargs(self) -> dict[str, Any]:
        """Return the decoding in lm-eval's words."""
        sampled: dict[str, Any] = {"do_sample": False, "temperature": 0.0}
        if self.temperature > 0:
            sampled = {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p}
        further = {name: value for name, value in self.further.items() if name != OWN}
        return {"max_gen_toks": self.max_tokens, **sampled, **further}

    def parts(self) -> dict[str, Any]:
        """Return the decoding as keys of responses are made of; what is neutral is left out."""
        named = asdict(self)
        return named if self.further else {k: v for k, v in named.items() if k != "further"}


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else canonical_json(value).strip('"')


def decoding_for(
    model: ModelSpec,
    settings: Mapping[str, Any],
    *,
    seed: int,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> Decoding:
    """Return the decoding for a model: the default leaves half of a short context to the prompt.

    Args:
        model: whose context the response must fit.
        settings: `max_tokens`, `temperature`, `top_p`, `top_k`, `min_p`, `repetition_penalty`, as
            far as the user says; with `generation_config=checkpoint` the checkpoint says the rest.
        seed: of sampling.
        max_tokens: the suite's own length, unless the settings have one.

    Raises:
        ConfigError: the wanted response alone fills the model's context, or the engine cannot
            draw as asked.
    """
    room = model.max_length // 2 if model.max_length else max_tokens
    max_tokens = int(settings.get("max_tokens", min(max_tokens, room)))
    if model.max_length and max_tokens >= model.max_length:
        raise ConfigError(
            f"--decoding max_tokens={max_tokens} leaves no room for a prompt: {model.name} has a "
            f"context of {model.max_length} tokens"
        )
    if asked := settings.get(OWN):
        settings = _own_drawing(model, asked) | {k: v for k, v in settings.items() if k != OWN}
    temperature = float(settings.get("temperature", 0.0))
    beside = {"max_tokens", "temperature", "top_p", *(SAMPLING if temperature == 0 else ())}
    return Decoding(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=float(settings.get("top_p", 1.0)),
        seed=seed,
        further={
            name: value
            for name, value in settings.items()
            if name not in beside and value != NEUTRAL.get(name)
        },
    )


def _own_drawing(model: ModelSpec, asked: object) -> dict[str, Any]:
    """Return the settings that a checkpoint's generation_config.json draws with.

    Raises:
        ConfigError: nobody knows them, or the engine cannot draw like that.
    """
    if asked != "checkpoint":
        raise ConfigError(f"--decoding {OWN}={asked}: {OWN} can only be checkpoint")
    if model.engine == "openai":
        return {OWN: "checkpoint"}  # the server knows it, and is left to it
    if model.checkpoint is None:
        raise ConfigError(
            f"--decoding {OWN}=checkpoint: what {model.name} is drawn with by itself is not known "
            "here: give temperature, top_p, top_k, min_p and repetition_penalty"
        )
    own = model.checkpoint.drawing
    if not own.pop("do_sample", False):
        own = {name: value for name, value in own.items() if name not in SAMPLING}
    elif "temperature" not in own:
        own["temperature"] = 1.0
    if unknown := sorted(own.keys() - _DRAWN_BY[model.engine]):
        raise ConfigError(
            f"--decoding {OWN}=checkpoint: {model.name} sets {', '.join(unknown)}, which is not "
            f"done by {model.engine}: give the others by name, such as temperature=0.7"
        )
    return own


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """What the user says about running a model, beside which one."""

    batch_size: int | None = None
    """None: found automatically on a GPU, small on a CPU."""
    chat_template: str | None = None
    """Text of a Jinja chat template, in place of (or for want of) the checkpoint's own."""
    device: str | None = None
    arguments: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """Further arguments of the engine: dtype, tensor_parallel_size, ..."""


ENGINE_SETTINGS: Mapping[str, Mapping[str, type]] = {
    "hf": {
        "batch_size": int,
        "device": str,
        "dtype": str,
        "chat_template": str,
        "max_length": int,
        "max_batch_size": int,
        "parallelize": bool,
        "max_memory_per_gpu": str,
        "max_cpu_memory": str,
        "offload_folder": str,
        "tp_plan": str,
        "attn_implementation": str,
        "softmax_dtype": str,
        "mixed_precision_dtype": str,
        "add_bos_token": bool,
        "prefix_token_id": int,
        "use_fast_tokenizer": bool,
    },
    "vllm": {
        "batch_size": int,
        "dtype": str,
        "tensor_parallel_size": int,
        "gpu_memory_utilization": float,
        "max_model_len": int,
        "chat_template": str,
        "pipeline_parallel_size": int,
        "data_parallel_size": int,
        "enable_expert_parallel": bool,
        "enable_prefix_caching": bool,
        "enforce_eager": bool,
        "max_num_seqs": int,
        "max_num_batched_tokens": int,
        "kv_cache_dtype": str,
        "quantization": str,
        "tokenizer_mode": str,
        "add_bos_token": bool,
        "prefix_token_id": int,
        "max_lora_rank": int,
        "cpu_offload_gb": float,
    },
    "openai": {"num_concurrent": int, "max_retries": int, "timeout": int},
    "lm-eval": {"chat_template": str},
}
"""What `--engine` may set, by kind of model: what lm-eval's model types take, by their names. Who
wants others writes lm-eval:TYPE:ARGS."""
_INDIFFERENT = {
    *("max_batch_size", "parallelize", "max_memory_per_gpu", "max_cpu_memory", "offload_folder"),
    *("num_concurrent", "max_retries", "timeout"),
}
"""Those that say where and how fast, and so change no response."""


def generation_spec(
    model: ModelSpec, options: ModelOptions, decoding: Decoding, *, asking: Mapping[str, str]
) -> dict[str, Any]:
    """Return everything that decides a response; its digest is the generation's key.

    `asking` is how an item becomes a prompt: form, prompting, template.
    """
    spec = {
        "model": dict(model.identity),
        "chat_template": digest(options.chat_template) if options.chat_template else None,
        "engine": {k: v for k, v in options.arguments.items() if k not in _INDIFFERENT},
        "asking": dict(asking),
        "decoding": decoding.parts(),
    }
    once_kept = model.engine == "hf" and model.checkpoint and model.checkpoint.penalties
    if (once_kept or model.engine == "openai" and model.url != OPENAI_URL) and not decoding.further:
        # Under the same key responses were once drawn with the checkpoint's penalties.
        spec[OWN] = "left out"
    return spec


FINISHED: Mapping[object, FinishReason] = {"stop": "stop", "length": "length"}
"""What engines call the end of a response, as far as we tell ends apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawResponse:
    """One response as it came out of the model; its fields are those of `Response`."""

    text: str | None = None
    reason: str | None = None
    final: bool = False
    finish_reason: FinishReason | None = None
    prompt_tokens: int | None = None
    response_tokens: int | None = None


class LoadedModel:
    """An lm-eval model ready to be asked, with our tasks."""

    def __init__(self, lm: Any, decoding: Decoding) -> None:
        self._lm = lm
        self._decoding = decoding

    @property
    def chunk_size(self) -> int:
        """Items per chunk: what a killed run can lose, and what is sorted by length together."""
        batch = getattr(self._lm, "batch_size", None)
        return 4 * batch if isinstance(batch, int) and batch > 1 else 256

    def close(self) -> None:
        """Give back the memory of the model, which cannot be asked any more."""
        lm, self._lm = self._lm, None
        if hasattr(lm, "close"):
            lm.close()
        del lm
        gc.collect()
        if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def ask(self, task: Any, positions: Sequence[int]) -> list[Response]:
        """Return the responses to the documents of a task at these positions, in their order."""
        from lm_eval.evaluator import evaluate
        from lm_eval.utils import set_torch_seed

        # Sampling is seeded by what is sampled: a resumed run draws what an unbroken one would.
        set_torch_seed(int(digest([self._decoding.seed, list(positions)])[:8], 16))
        with _model_errors():
            # `simple_evaluate` is this plus seconds of collecting the environment, every time.
            results = evaluate(
                lm=self._lm,
                task_dict={"tasks": {task.config.task: task}, "groups": {}, "group_map": {}},
                samples={task.config.task: list(positions)},
                bootstrap_iters=0,
                apply_chat_template=True,
                fewshot_as_multiturn=True,
                log_samples=True,
            )
        samples = results["samples"][task.config.task]
        if task.OUTPUT_TYPE == "multiple_choice":
            return [_choice(sample) for sample in samples]
        texts = [str(sample["resps"][0][0]) for sample in samples]
        outcomes = getattr(self._lm, "outcomes", None) or [RawResponse(text=text) for text in texts]
        return [_response(*both) for both in zip(samples, outcomes, strict=True)]


def _choice(sample: dict[str, Any]) -> Response:
    """Return the likeliest option of a question, with the log-probability of each."""
    logprobs = tuple(float(response[0][0]) for response in sample["resps"])
    likeliest = max(range(len(logprobs)), key=logprobs.__getitem__)
    return Response(
        item_key=sample["doc"]["item_key"],
        text=clean_text(str(sample["doc"]["options"][likeliest])),
        prompt_hash=digest([str(arguments[0]) for arguments in sample["arguments"]]),
        choice_logprobs=logprobs,
    )


def _response(sample: dict[str, Any], outcome: RawResponse) -> Response:
    made = asdict(outcome)
    if outcome.text is not None:
        made["text"] = clean_text(outcome.text).strip()
    prompt_hash = digest(str(sample["arguments"][0][0]))
    return Response(item_key=sample["doc"]["item_key"], prompt_hash=prompt_hash, **made)


def load_model(model: ModelSpec, options: ModelOptions, decoding: Decoding) -> LoadedModel:
    """Load a model into lm-eval.

    Raises:
        ModelError: it cannot be loaded, has no chat template, or its engine is not installed.
        BackendError: its server cannot be reached, wants a key, or does not serve it.
    """
    if model.has_chat_template is False and not options.chat_template:
        raise ModelError(
            f"{model.name} has no chat template: give one with --engine chat_template=FILE "
            "(Jinja; `{% for m in messages %}{{ m['content'] }}{% endfor %}` for a base model)"
        )
    if model.engine == "openai":
        # lm-eval would only find out after many tries of every request.
        asyncio.run(load_backend(f"openai:{model.target}@{model.url}").check())
    silence_libraries()
    with _model_errors():
        lm = _construct(model, options, decoding)
    if options.chat_template:
        lm.tokenizer.chat_template = options.chat_template
    return LoadedModel(lm, decoding)


def _construct(model: ModelSpec, options: ModelOptions, decoding: Decoding) -> Any:
    if model.engine == "lm-eval":
        return _lm_eval_model(model, sampled=decoding.temperature > 0)
    module, name, extra = _RECORDING[model.engine]
    try:
        kind = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        needed = f"{model.name} needs {error.name}: pip install 'mipo-eval[{extra}]'"
        raise ModelError(needed) from error
    if model.engine == "openai":
        return kind(
            model=model.target,
            base_url=f"{model.url}/chat/completions",
            seed=decoding.seed,
            tokenizer_backend=None,
            hosted=model.url == OPENAI_URL,
            neutral=OWN not in decoding.further,
            **{"num_concurrent": _CONCURRENT_REQUESTS, "max_retries": 5, **options.arguments},
        )
    kind = partial(kind, model.checkpoint, seed=decoding.seed, **options.arguments)
    if model.engine == "vllm":
        # 0 asks all at once, as "auto" does, but without vLLM's progress bar, which divides by
        # the time it has been shown: none at all under TQDM_DISABLE.
        return kind(batch_size=options.batch_size or 0)
    import torch

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    batch_size = options.batch_size or (_CPU_BATCH if device == "cpu" else "auto")
    loaded = kind(device=device, batch_size=batch_size, use_safetensors=True)
    fit_threads(loaded.model, rows=options.batch_size or _CPU_BATCH)
    return loaded


def _lm_eval_model(model: ModelSpec, *, sampled: bool) -> Any:
    from lm_eval.api.registry import get_model

    kind = get_model(model.target)
    arguments = dict(model.arguments)
    if "device" in inspect.signature(kind).parameters and "device" not in arguments:
        import torch

        if not torch.cuda.is_available():  # lm-eval's default is to fail then
            arguments["device"] = "cpu"
    loaded = kind(**arguments)
    if hasattr(getattr(loaded, "model", None), "generation_config"):
        from mipo_eval.models.weights import draw_neutrally

        draw_neutrally(loaded.model, sampled=sampled)
    return loaded


def load_task(name: str, metadata: dict[str, Any], decoding: Decoding) -> Any:
    """Return one of our lm-eval tasks with its documents, set to hand out responses only."""
    silence_libraries()
    from lm_eval.tasks import TaskManager

    folder = str(resources.files("mipo_eval.tasks"))
    manager = TaskManager(include_path=folder, include_defaults=False, metadata=metadata)
    task = manager.load([name])["tasks"][name]
    task.override_metric("bypass")
    task.set_config(key="process_results", value=lambda _doc, _results: {"bypass": 0})
    if task.OUTPUT_TYPE == "generate_until":
        # What ends a reply is the task's affair; how it is drawn is the user's.
        task.set_config(key="generation_kwargs", value=decoding.gen_kwargs(), update=True)
    return task


@contextmanager
def _model_errors() -> Iterator[None]:
    """Turn what models raise at the seam into one line."""
    from aiohttp import ClientError

    kinds = [OSError, ValueError, RuntimeError, AssertionError, ImportError, ClientError]
    with suppress(ModuleNotFoundError):  # a served model is asked without it
        from safetensors import SafetensorError

        kinds.append(SafetensorError)
    try:
        yield
    except tuple(kinds) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        if "out of memory" in message.lower():
            message = "out of memory: lower --engine batch_size=N or --decoding max_tokens=N"
        raise ModelError(f"the model failed: {message[:500]}") from error


def read_chat_template(path: Path) -> str:
    """Return the text of a chat template file.

    Raises:
        ConfigError: the file cannot be read or is not a Jinja template.
    """
    from jinja2 import TemplateSyntaxError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    try:
        text = path.read_text(encoding="utf-8")
        ImmutableSandboxedEnvironment().parse(text)
    except OSError as error:
        raise ConfigError(f"chat_template={path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, TemplateSyntaxError) as error:
        raise ConfigError(f"chat_template={path} is not a Jinja template: {error}") from error
    return text


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

    def first(self, name: str) -> int:
        """Return the seed of the only request with this prompt, however often it is sent."""
        return self._waiting[name][0]


def item_seed(seed: int, item_key: str) -> int:
    """Return the seed of one item's draw, 0 to 2^31 - 1, which every engine takes."""
    return int(digest([seed, item_key])[:8], 16) >> 1


def rounds(names: Sequence[str]) -> list[list[int]]:
    """Split positions into rounds in which no name comes twice, as few as possible.

    Example:
        >>> rounds(["a", "b", "a"])
        [[0, 1], [2]]
    """
    seen: Counter[str] = Counter()
    found: defaultdict[int, list[int]] = defaultdict(list)
    for position, name in enumerate(names):
        found[seen[name]].append(position)
        seen[name] += 1
    return [found[number] for number in sorted(found)]


class CompletionHook:
    """Stands where lm-eval keeps its response cache, and sees each completion as it is made.

    Models announce how a completion ended (`announce`) just before lm-eval hands its text to the
    cache (`add_partial`), in the same order: the two together are one outcome.
    """

    def __init__(self) -> None:
        self._announced: deque[RawResponse] = deque()
        self._made: defaultdict[str, deque[RawResponse]] = defaultdict(deque)

    def announce(self, outcomes: Iterable[RawResponse]) -> None:
        """Queue how the next completions ended; their texts follow."""
        self._announced.extend(outcomes)

    def add_partial(self, attr: str, request: Any, text: str) -> None:
        """Take the text of a completion (lm-eval's name and signature)."""
        how = self._announced.popleft() if self._announced else RawResponse()
        self._made[str(request[0])].append(how if how.reason else replace(how, text=text))

    def take(self, context: str) -> RawResponse | None:
        """Return the next outcome for a context; equal contexts come out in order."""
        made = self._made.get(context)
        return made.popleft() if made else None


class Recording:
    """What our subclasses of lm-eval's models have in common; goes before lm-eval's class."""

    outcomes: list[RawResponse]
    """Of the last `generate_until`, in the order of its requests."""

    def _record(self, seed: int) -> None:
        """Begin to record; last in `__init__`."""
        self.cache_hook = CompletionHook()
        self._seeds = Seeds(seed)

    def _names(self, sent: list[Any]) -> list[str]:
        """Return what the model sees of each request, by which it takes its seed."""
        return [str(request.args[0]) for request in sent]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Generate for the requests that fit, and record (lm-eval's name and signature)."""
        refused = [self._too_long(request) for request in requests]
        sent = [request for request, no in zip(requests, refused, strict=True) if no is None]
        texts = iter(self._generate(sent) if sent else [])
        self.outcomes = []
        for request, no in zip(requests, refused, strict=True):
            made = no or RawResponse(text=next(texts))
            self.outcomes.append(no or self.cache_hook.take(str(request.args[0])) or made)
        return [outcome.text or "" for outcome in self.outcomes]

    def loglikelihood(
        self, requests: list[Any], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        """Score continuations, without lm-eval's own bar."""
        scored: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)  # type: ignore[misc]
        return scored

    def _generate(self, sent: list[Any]) -> list[str]:
        self._seeds.expect(sent, self._names(sent))
        texts: list[str] = super().generate_until(sent, disable_tqdm=True)  # type: ignore[misc]
        return texts

    def _too_long(self: Any, request: Any) -> RawResponse | None:
        """Return the outcome of a request that must not be sent, or None."""
        context, arguments = request.args
        tokens = len(self.tok_encode(context))
        if tokens + int(arguments.get("max_gen_toks", self.max_gen_toks)) <= self.max_length:
            return None
        reason = "prompt longer than the model's context"
        return RawResponse(reason=reason, final=True, prompt_tokens=tokens)
