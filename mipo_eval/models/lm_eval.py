"""The seam to lm-eval: a model under evaluation is loaded into it and asked chunk by chunk.

lm-eval's models return texts only, and draw from one stream of random numbers for a whole batch, so
that a response depends on its neighbours. Our subclasses (`lm_eval_hf`, `lm_eval_vllm`) share
`Recording`: it keeps why each response ended and how long it was, hands it on
as soon as it is there, leaves prompts alone that lm-eval would cut, and hands every request a seed
of its own, digested from the decoding's seed and the item's key. So the same item gets the same
draw, in any batch, order or process. A served model is asked with the same tasks, but by the
backends that ask judges (`lm_eval_served`).
"""

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib import import_module, resources
from typing import Any

from mipo_eval.checkpoints import NEUTRAL, SAMPLING, loading
from mipo_eval.errors import ConfigError, ModelError
from mipo_eval.keys import canonical_json, clean_text, digest
from mipo_eval.models import chat
from mipo_eval.models.callable import CallableBackend
from mipo_eval.models.drawing import OWN, check_drawing, own_drawing
from mipo_eval.models.effort import Effort
from mipo_eval.models.lm_eval_keyed import keyed
from mipo_eval.models.precision import Arguments, device_of, engine_arguments
from mipo_eval.models.raw_response import RawResponse
from mipo_eval.models.recording import Completion, CompletionHook, Watched
from mipo_eval.models.server import ServedBackend
from mipo_eval.models.spec import KINDS, OPENAI_URL, ModelSpec
from mipo_eval.models.weights import draw_neutrally, free_memory
from mipo_eval.records import Response
from mipo_eval.settings import silence_libraries
from mipo_eval.threads import fit_threads

_RECORDING = {
    "hf": ("mipo_eval.models.lm_eval_hf", "RecordingHFLM", "hf"),
    "vllm": ("mipo_eval.models.lm_eval_vllm", "RecordingVLLM", "vllm"),
}
"""Engine to module, class and the extra that installs what they need."""
_SERVED = "mipo_eval.models.lm_eval_served"
_CPU_BATCH = 16
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
        settings = own_drawing(model, asked) | {k: v for k, v in settings.items() if k != OWN}
    check_drawing(model, settings.keys())
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """What the user says about running a model, beside which one."""

    batch_size: int | None = None
    """None: found automatically on a GPU, small on a CPU."""
    system: str = ""
    """What the model is told before every conversation, and before an item's own system prompt."""
    chat_template: str | None = None
    """Text of a Jinja chat template, in place of (or for want of) the checkpoint's own."""
    device: str | None = None
    arguments: Arguments = field(default_factory=dict)
    """Further arguments of the engine: dtype, tensor_parallel_size, ..."""
    effort: Effort = field(default_factory=Effort)
    """How much the model is let think."""
    backend: ServedBackend | CallableBackend | None = None
    """What asks it, where it is served and somebody wants to know what that costs."""

    def for_engine(self, model: ModelSpec) -> Arguments:
        """Return what the model's engine is told, with a precision where nobody says one."""
        return engine_arguments(model, self.arguments, self.device)


_OF_SERVER: Mapping[str, type] = {
    "num_concurrent": int,
    "max_retries": int,
    "timeout": float,
    "requests_per_minute": float,
    "tokens_per_minute": float,
}
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
        "prefix_token_id": int,
        "max_lora_rank": int,
        "cpu_offload_gb": float,
    },
    **{name: _OF_SERVER for name, kind in KINDS.items() if kind.served},
    "lm-eval": {"chat_template": str},
    "own": {},
}
"""What `--engine` may set, by kind of model: what lm-eval's model types take, by their names, and
how hard a server may be pushed. Who wants others writes lm-eval:TYPE:ARGS."""
_INDIFFERENT = {
    *("max_batch_size", "parallelize", "max_memory_per_gpu", "max_cpu_memory", "offload_folder"),
    *_OF_SERVER,
}
"""Those that say where and how fast, and so change no response."""


def generation_spec(
    model: ModelSpec, options: ModelOptions, decoding: Decoding, *, asking: Mapping[str, str]
) -> dict[str, Any]:
    """Return everything that decides a response; its digest is the generation's key.

    `asking` is how an item becomes a prompt: form, prompting, template, system prompt.
    """
    # Only where it counts, so that the keys of all other responses stay what they were.
    told = {"system": options.system} if options.system else {}
    spec = {
        **chat.template_habits(model, options.chat_template),
        **told,
        "model": dict(model.identity),
        "chat_template": digest(options.chat_template) if options.chat_template else None,
        "engine": {k: v for k, v in options.for_engine(model).items() if k not in _INDIFFERENT},
        "asking": dict(asking),
        "decoding": decoding.parts(),
        # Left out where nothing is said, so that keys stay what they were.
        **({"thinking": options.effort.parts()} if options.effort.parts() else {}),
    }
    by_file = model.engine == "hf" and model.checkpoint and model.checkpoint.penalties
    by_server = model.engine == "openai" and model.url != OPENAI_URL
    if (by_file or by_server) and not decoding.further:
        # Under the same key responses were once drawn with the checkpoint's penalties.
        spec[OWN] = "left out"
    return spec


Keep = Callable[[list[Response]], None]
"""Stores some responses."""


class LoadedModel:
    """An lm-eval model ready to be asked, with our tasks."""

    def __init__(self, lm: Any, decoding: Decoding, system: str = "", remark: str = "") -> None:
        self._lm, self._remark = lm, remark
        self._decoding = decoding
        self._system = system

    @property
    def chunk_size(self) -> int:
        """Items per chunk: what is sorted by length together."""
        batch = getattr(self._lm, "batch_size", None)
        return 4 * batch if isinstance(batch, int) and batch > 1 else 256

    def remark(self) -> str:
        """Return what is to be known of how the model is asked; shown with the progress."""
        form = getattr(getattr(self._lm, "tokenizer", None), "apply_chat_template", None)
        folds = getattr(form, "has_folded", False)
        written = getattr(getattr(self._lm, "cache_hook", None), "written", 0)
        said = (
            f"token {written} of at most {self._decoding.max_tokens}" if written else "",
            self._remark,
            "no system role: its text stands before the first user turn" if folds else "",
        )
        return "; ".join(filter(None, said))

    def close(self) -> None:
        """Give back the memory of the model, which cannot be asked any more."""
        lm, self._lm = self._lm, None
        if hasattr(lm, "close"):
            lm.close()
        del lm
        free_memory()

    def ask(
        self,
        task: Any,
        positions: Sequence[int],
        keep: Keep = lambda _: None,
        beat: Callable[[], None] = lambda: None,
    ) -> list[Response]:
        """Return the responses to the documents of a task at these positions, in their order.

        Each is handed to `keep` as soon as it is there, a batch or a reply at a time; meanwhile
        `beat` is called whenever a batch has a token more.
        """
        from lm_eval.evaluator import evaluate
        from lm_eval.utils import set_torch_seed

        made = _Made(keep, getattr(self._lm, "count_tokens", lambda _: None))
        hook = self._lm.cache_hook
        if hasattr(hook, "begin"):
            hook.begin(made.take, beat)
        # Sampling is seeded by what is sampled: a resumed run draws what an unbroken one would.
        set_torch_seed(int(digest([self._decoding.seed, list(positions)])[:8], 16))
        with _model_errors():
            # `simple_evaluate` is this plus seconds of collecting the environment, every time.
            results = evaluate(
                lm=self._lm,
                task_dict={"tasks": {task.config.task: task}, "groups": {}, "group_map": {}},
                samples={task.config.task: list(positions)},
                bootstrap_iters=0,
                system_instruction=self._system or None,
                apply_chat_template=True,
                fewshot_as_multiturn=(task.config.metadata or {}).get("turns", True),
                log_samples=True,
            )
        if hasattr(hook, "begin"):
            hook.flush()
        return made.all(results["samples"][task.config.task], task.OUTPUT_TYPE)


class _Made:
    """The responses of a chunk, handed on as they come."""

    def __init__(self, keep: Keep, count: Callable[[str], int | None]) -> None:
        self._keep, self._count = keep, count
        self._responses: dict[int, Response] = {}
        """By the number of the document in the chunk."""
        self._scored: defaultdict[int, dict[int, tuple[str, float]]] = defaultdict(dict)
        """By that number and the option's: its prompt and log-probability."""

    def take(self, completions: Sequence[Completion]) -> None:
        """Take what a model has completed."""
        fresh = {}
        for request, answer in completions:
            if isinstance(answer, RawResponse):
                fresh[request.doc_id] = self._read(request.doc, str(request.args[0]), answer)
                continue
            scored = self._scored[request.doc_id]
            scored[request.idx] = (str(request.args[0]), float(answer[0]))
            if len(scored) == len(request.doc["options"]):
                prompts, logprobs = zip(*(scored[i] for i in sorted(scored)), strict=True)
                fresh[request.doc_id] = _choice(request.doc, prompts, logprobs)
        self._responses |= fresh
        if fresh:
            self._keep(list(fresh.values()))

    def all(self, samples: Sequence[Mapping[str, Any]], kind: str) -> list[Response]:
        """Return the whole chunk, as lm-eval has it where a model did not tell of a response."""
        found = []
        for number, sample in enumerate(samples):
            if number not in self._responses:
                prompts = [str(arguments[0]) for arguments in sample["arguments"]]
                answers = [answers[0] for answers in sample["resps"]]
                if kind == "multiple_choice":
                    made = _choice(sample["doc"], prompts, [float(one[0]) for one in answers])
                else:
                    text = RawResponse(text=str(answers[0]))
                    made = self._read(sample["doc"], prompts[0], text)
                self._keep([made])
                self._responses[number] = made
            found.append(self._responses[number])
        return found

    def _read(self, document: Mapping[str, Any], prompt: str, outcome: RawResponse) -> Response:
        return begun(outcome.read(document["item_key"], prompt, self._count), document)


def _choice(
    document: Mapping[str, Any], prompts: Sequence[str], logprobs: Sequence[float]
) -> Response:
    """Return the likeliest option of a question, with the log-probability of each."""
    likeliest = max(range(len(logprobs)), key=logprobs.__getitem__)
    return Response(
        item_key=document["item_key"],
        text=clean_text(str(document["options"][likeliest])),
        prompt_hash=digest(list(prompts)),
        choice_logprobs=tuple(logprobs),
    )


def begun(response: Response, document: Mapping[str, Any]) -> Response:
    """Return a response with what the item begins it with; nothing written stays nothing."""
    prefill = str(document.get("prefill", ""))
    return replace(response, text=f"{prefill}{response.text}") if response.text else response


def load_model(model: ModelSpec, options: ModelOptions, decoding: Decoding) -> LoadedModel:
    """Load a model into lm-eval, or see whether its server can be asked.

    Raises:
        ModelError: it cannot be loaded, has no chat template, or its engine is not installed.
        BackendError: its server cannot be reached, wants a key, or does not serve it.
    """
    if model.has_chat_template is False and not options.chat_template:
        raise ModelError(
            f"{model.name} has no chat template: give one with --engine chat_template=FILE "
            "(Jinja; `{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}` for a "
            "base model)"
        )
    silence_libraries()
    if model.backend is not None:
        served: LoadedModel = import_module(_SERVED).load_served(model, options, decoding)
        return served
    with loading(model.name):
        lm = _construct(model, options, decoding)
        if options.chat_template:
            lm.tokenizer.chat_template = options.chat_template
            lm.hf_chat_template = None  # of vLLM's model: the checkpoint's, found before
        if getattr(lm, "tokenizer", None) is not None:  # some load it when it is looked at
            chat.with_chat_form(lm.tokenizer)
    own = options.for_engine(model).get("dtype")
    fast = "" if own == options.arguments.get("dtype") else f"{own}, this processor's fastest"
    return LoadedModel(lm, decoding, options.system, fast)


def _construct(model: ModelSpec, options: ModelOptions, decoding: Decoding) -> Any:
    if model.engine == "lm-eval":
        return _lm_eval_model(model, sampled=decoding.temperature > 0)
    module, name, extra = _RECORDING[model.engine]
    try:
        kind = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        needed = f"{model.name} needs {error.name}: pip install 'mipo-eval[{extra}]'"
        raise ModelError(needed) from error
    kind = partial(kind, model.checkpoint, seed=decoding.seed, **options.for_engine(model))
    kind = partial(kind, chat_template_args=options.effort.template_arguments())
    if model.engine == "vllm":
        # 0 asks all at once, as "auto" does, but without vLLM's progress bar, which divides by
        # the time it has been shown: none at all under TQDM_DISABLE.
        return kind(batch_size=options.batch_size or 0)
    device = device_of(options.device)
    batch_size = options.batch_size or (_CPU_BATCH if device == "cpu" else "auto")
    loaded = kind(
        device=device,
        batch_size=batch_size,
        use_safetensors=True,
        thinking_budget=options.effort.budget,
    )
    fit_threads(loaded.model, rows=options.batch_size or _CPU_BATCH)
    return loaded


def _lm_eval_model(model: ModelSpec, *, sampled: bool) -> Any:
    from lm_eval.api.registry import get_model

    kind = keyed(get_model(model.target))
    arguments = dict(model.arguments)
    if "device" in inspect.signature(kind).parameters and "device" not in arguments:
        import torch

        if not torch.cuda.is_available():  # lm-eval's default is to fail then
            arguments["device"] = "cpu"
    if not sampled:  # draws depend on the whole chunk there, which is then made again as a whole
        kind = type(kind.__name__, (Watched, kind), {})
    try:
        loaded = kind(**arguments)
    except TypeError as error:
        raise ModelError(f"{model.name}: {model.target} does not accept this: {error}") from error
    if not sampled:
        loaded.cache_hook = CompletionHook(each=True)
    if hasattr(getattr(loaded, "model", None), "generation_config"):
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
