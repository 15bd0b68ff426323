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
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib import import_module, resources
from pathlib import Path
from typing import Any

from mipo_eval.errors import ConfigError, ModelError
from mipo_eval.keys import digest
from mipo_eval.models.effort import Effort
from mipo_eval.models.raw_response import RawResponse
from mipo_eval.models.spec import OPENAI_URL, ModelSpec, load_backend
from mipo_eval.records import Response, clean_text
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
DEFAULT_MAX_TOKENS = 256
"""Room for the two to three sentences the query asks for, generously."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How responses are drawn. Temperature 0 is greedy decoding."""

    max_tokens: int = DEFAULT_MAX_TOKENS
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def describe(self) -> str:
        """Return the decoding as a signature shows it."""
        how = "greedy" if self.temperature == 0 else f"t{self.temperature:g}-p{self.top_p:g}"
        return f"{how}-{self.max_tokens}"

    def gen_kwargs(self) -> dict[str, Any]:
        """Return the decoding in lm-eval's words."""
        sampled: dict[str, Any] = {"do_sample": False, "temperature": 0.0}
        if self.temperature > 0:
            sampled = {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p}
        return {"max_gen_toks": self.max_tokens, **sampled}


def decoding_for(
    model: ModelSpec,
    settings: Mapping[str, float],
    *,
    seed: int,
    max_tokens: int = DEFAULT_MAX_TOKENS,
) -> Decoding:
    """Return the decoding for a model: the default leaves half of a short context to the prompt.

    Args:
        model: whose context the response must fit.
        settings: `max_tokens`, `temperature`, `top_p`, as far as the user says.
        seed: of sampling.
        max_tokens: the suite's own length, unless the settings have one.

    Raises:
        ConfigError: the wanted response alone fills the model's context.
    """
    room = model.max_length // 2 if model.max_length else max_tokens
    max_tokens = int(settings.get("max_tokens", min(max_tokens, room)))
    if model.max_length and max_tokens >= model.max_length:
        raise ConfigError(
            f"--decoding max_tokens={max_tokens} leaves no room for a prompt: {model.name} has a "
            f"context of {model.max_length} tokens"
        )
    return Decoding(
        max_tokens=max_tokens,
        temperature=float(settings.get("temperature", 0.0)),
        top_p=float(settings.get("top_p", 1.0)),
        seed=seed,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """What the user says about running a model, beside which one."""

    batch_size: int | None = None
    """None: found automatically on a GPU, small on a CPU."""
    chat_template: str | None = None
    """Text of a Jinja chat template, in place of (or for want of) the checkpoint's own."""
    device: str | None = None
    arguments: Mapping[str, str | int | float] = field(default_factory=dict)
    """Further arguments of the engine that change numbers: dtype, tensor_parallel_size, ..."""
    effort: Effort = field(default_factory=Effort)
    """How much the model is let think."""


ENGINE_SETTINGS: Mapping[str, Mapping[str, type]] = {
    "hf": {"batch_size": int, "device": str, "dtype": str, "chat_template": str},
    "vllm": {
        "batch_size": int,
        "dtype": str,
        "tensor_parallel_size": int,
        "gpu_memory_utilization": float,
        "max_model_len": int,
        "chat_template": str,
    },
    "openai": {},
    "lm-eval": {"chat_template": str},
}
"""What `--engine` may set, by kind of model."""


def generation_spec(
    model: ModelSpec, options: ModelOptions, decoding: Decoding, *, asking: Mapping[str, str]
) -> dict[str, Any]:
    """Return everything that decides a response; its digest is the generation's key.

    `asking` is how an item becomes a prompt: form, prompting, template.
    """
    return {
        "model": dict(model.identity),
        "chat_template": digest(options.chat_template) if options.chat_template else None,
        "engine": dict(options.arguments),
        "asking": dict(asking),
        "decoding": asdict(decoding),
        # Left out where nothing is said, so that keys stay what they were.
        **({"thinking": options.effort.parts()} if options.effort.parts() else {}),
    }


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
        count = getattr(self._lm, "count_tokens", lambda text: None)
        return [
            outcome.read(sample["doc"]["item_key"], str(sample["arguments"][0][0]), count)
            for sample, outcome in zip(samples, outcomes, strict=True)
        ]


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
        from lm_eval.api.registry import get_model

        return get_model(model.target)(**model.arguments)
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
            num_concurrent=_CONCURRENT_REQUESTS,
            max_retries=5,
            seed=decoding.seed,
            tokenizer_backend=None,
            hosted=model.url == OPENAI_URL,
            effort=options.effort,
        )
    kind = partial(kind, pretrained=model.target, seed=decoding.seed, **options.arguments)
    kind = partial(kind, chat_template_args=options.effort.template_arguments())
    if model.engine == "vllm":
        # 0 asks all at once, as "auto" does, but without vLLM's progress bar, which divides by
        # the time it has been shown: none at all under TQDM_DISABLE.
        return kind(batch_size=options.batch_size or 0)
    import torch

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    batch_size = options.batch_size or (_CPU_BATCH if device == "cpu" else "auto")
    loaded = kind(
        device=device,
        batch_size=batch_size,
        use_safetensors=True,
        thinking_budget=options.effort.budget,
    )
    fit_threads(loaded.model, rows=options.batch_size or _CPU_BATCH)
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

    def count_tokens(self: Any, text: str) -> int | None:
        """Return how many tokens a text has; None where only a server knows."""
        if self.tokenizer is None:
            return None
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

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
