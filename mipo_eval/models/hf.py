"""A judge model in this process, through transformers: for small judges, CPUs and experiments.

Where a request names its choices, nothing is generated. The choices are token sequences; what they
have in common is appended for free, and where they part one forward pass over the prompt shows
which of the next tokens is the likeliest. For "1" to "5" that is a single pass, many requests at
once; the reply is what greedy generation constrained to the choices would have written.

What many requests share is read only once. Requests to a judge have long common beginnings: the
instructions are everybody's, and all requests about one response share that response too. Sorted,
the sequences form a tree; its tokens are laid out in one row, and each attends to its ancestors
only and has its depth as position. To the model every branch is then the sequence it stands for,
without padding, and no token is computed twice:

    1 2 3 4      row        1 2 3 4 5 6
    1 2 5 6      positions  0 1 2 3 2 3      6 sees 1, 2, 5 and itself
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mipo_eval.checkpoints import find_checkpoint, loading
from mipo_eval.errors import BackendError, ChatTemplateError
from mipo_eval.keys import item_rng
from mipo_eval.models.base import Answers, Failure, Reply, Request, sendable
from mipo_eval.models.chat import prompt_ids, with_chat_form
from mipo_eval.models.precision import dtype_of
from mipo_eval.models.thinking import written
from mipo_eval.models.weights import load_weights
from mipo_eval.threads import fit_threads

if TYPE_CHECKING:
    import torch

Outcome = tuple[Request, Reply | Failure]


@dataclass(slots=True)
class PromptRow:
    """One request on its way through the model."""

    request: Request
    prompt: list[int]
    left: dict[str, list[int]] = field(default_factory=dict)
    """The choices still possible, with all their tokens and an end mark."""
    answer: list[int] = field(default_factory=list)
    """Tokens of the choice found so far."""
    logprobs: tuple[tuple[str, float], ...] | None = None

    @property
    def length(self) -> int:
        """Tokens so far."""
        return len(self.prompt) + len(self.answer)


class CheckpointBackend(ABC):
    """What backends share that run a checkpoint themselves.

    Args:
        model: folder of a checkpoint or adapter, or a hub id; as `--model` has it.

    Raises:
        ModelError: there is no such checkpoint, or it is not a language model.
    """

    window: ClassVar[int]
    """Requests that are taken together."""

    def __init__(self, model: str) -> None:
        self.name = model
        self.checkpoint = find_checkpoint(model)
        self._config = self.checkpoint.config

    @property
    @abstractmethod
    def _tokenizer(self) -> Any: ...

    @abstractmethod
    def _row(self, request: Request) -> PromptRow | Failure:
        """Return a request with its prompt, or why it cannot be asked."""

    def _batches(self, rows: list[PromptRow]) -> Iterator[list[PromptRow]]:
        """Yield what is run together."""
        if rows:
            yield rows

    @abstractmethod
    def _run(self, batch: list[PromptRow]) -> list[Outcome]:
        """Answer a batch."""

    async def answer(self, requests: Iterable[Request]) -> Answers:
        """Yield each request with its outcome, a window of them at a time."""
        source = iter(requests)
        while window := list(islice(source, self.window)):
            rows: list[PromptRow] = []
            for request in window:
                row = self._row(request)
                if isinstance(row, Failure):
                    yield request, row
                else:
                    rows.append(row)
            for batch in self._batches(rows):
                for outcome in await asyncio.to_thread(self._run, batch):
                    yield outcome

    def _identity(self, backend: str, **how: str) -> Mapping[str, str]:
        """Return the checkpoint by its content, and how it is run."""
        return {"backend": backend, "model": self.name, **self.checkpoint.identity, **how}

    async def check(self) -> None:
        """Find out, without loading the weights, whether the checkpoint can judge."""
        if not self.checkpoint.has_chat_template:
            raise BackendError(
                f"{self.name} has no chat template, so it cannot judge: use an instruction-tuned "
                "model, or put a chat_template.jinja into its folder"
            )

    def _prompt(self, request: Request, answer: int, room: Any) -> list[int] | Failure:
        """Return a request in the model's own form, up to where its answer begins.

        Args:
            request: what is asked.
            answer: tokens the answer may take.
            room: of the model's context, in tokens; not looked at where it is no number.
        """
        turns = [{"role": one.role, "content": sendable(one.content)} for one in request.messages]
        # Templates of models that think know these; the others do not look at them.
        level = request.sampling.reasoning
        thinking: dict[str, Any] = {} if level is None else {"reasoning_effort": level}
        thinking = {"enable_thinking": False} if level == "none" else thinking
        thinking |= request.sampling.effort.template_arguments()
        try:
            tokens = prompt_ids(self._tokenizer, turns, **thinking)
        except ChatTemplateError as error:
            return Failure(kind="bad_request", detail=str(error))
        needed = len(tokens) + answer
        if not isinstance(room, int) or needed <= room:
            return tokens
        asked = f"the request and its answer take {needed} tokens"
        return Failure(kind="bad_request", detail=f"{asked}, {self.name} has room for {room}")


class HfBackend(CheckpointBackend):
    """Asks a checkpoint through transformers, with its own chat template.

    Args:
        model: a checkpoint or adapter, as `CheckpointBackend` has it.
        decoding: "choices" reads an answer with choices from the logits; "generate" writes every
            answer token by token and leaves it to our parsers.
        batch_tokens: tokens in one forward pass; halved when memory runs out.
        device: where to run; default a GPU if there is one.
    """

    window = 512  # sorted by length, so the shortest come out first

    def __init__(
        self,
        model: str,
        *,
        decoding: Literal["choices", "generate"] = "choices",
        batch_tokens: int | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__(model)
        self._decoding = decoding
        self._device = device
        self._batch_tokens = batch_tokens or (8192 if self._where.startswith("cuda") else 1024)

    @cached_property
    def identity(self) -> Mapping[str, str]:
        """The checkpoint by its content, and how it is run."""
        how = {"dtype": self._dtype, "decoding": self._decoding}
        if self.checkpoint.penalties:  # with which replies were once written
            how["generation_config"] = "left out"
        return self._identity("hf", **how)

    async def check(self) -> None:
        """Find out, without loading the weights, whether the checkpoint can judge here."""
        self.checkpoint.require_loadable()
        await super().check()

    def _row(self, request: Request) -> PromptRow | Failure:
        left = {}
        if request.choices and self._decoding == "choices":
            left = {choice: self._choice_tokens(choice) for choice in request.choices}
        answer = max(map(len, left.values())) if left else request.sampling.max_tokens
        prompt = self._prompt(request, answer, self._config.get("max_position_embeddings"))
        if isinstance(prompt, Failure):
            return prompt
        # Where the template begins a thinking, what comes next is no answer yet: let it think.
        return PromptRow(request, prompt, {} if written(self._tokenizer, prompt, ()) else left)

    def _choice_tokens(self, choice: str) -> list[int]:
        """A choice and an end mark: "1" must be told from the beginning of "10".

        Some tokenizers put a space before the first word of a text; an answer follows a prompt, so
        the choice is split behind a line break, which is then cut off again.
        """
        before = self._tokenizer("\n", add_special_tokens=False)["input_ids"]
        both = self._tokenizer(f"\n{choice}", add_special_tokens=False)["input_ids"]
        if both[: len(before)] != before:  # the break became one token with the choice
            before, both = [], self._tokenizer(choice, add_special_tokens=False)["input_ids"]
        return [*both[len(before) :], self._end]

    def _batches(self, rows: list[PromptRow]) -> Iterator[list[PromptRow]]:
        """Yield what can be chosen together, then what must be written, by length."""
        if choosing := [row for row in rows if row.left]:
            yield choosing
        batch: list[PromptRow] = []
        for row in sorted((row for row in rows if not row.left), key=lambda row: row.length):
            if batch and (len(batch) + 1) * row.length > self._batch_tokens:
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _run(self, batch: list[PromptRow]) -> list[Outcome]:
        """Answer a batch, in smaller ones where memory runs out."""
        import torch

        try:
            with torch.inference_mode():
                return self._choose(batch) if batch[0].left else self._generate(batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                detail = f"a request of {batch[0].length} tokens does not fit into memory"
                return [(batch[0].request, Failure(kind="bad_request", detail=detail))]
        torch.cuda.empty_cache()
        self._batch_tokens = max(batch[0].length, self._batch_tokens // 2)
        half = len(batch) // 2
        return self._run(batch[:half]) + self._run(batch[half:])

    def _choose(self, batch: list[PromptRow]) -> list[Outcome]:
        """Follow the choices' tokens, one forward pass wherever they part."""
        running = batch
        while running := [row for row in running if _advance(row)]:
            logits = self._next_logits([row.prompt + row.answer for row in running])
            for row, scores in zip(running, logits, strict=True):
                if row.request.sampling.logprobs and row.logprobs is None:
                    row.logprobs = self._alternatives(scores, row.request.sampling.logprobs)
                self._take(row, scores)
        return [(row.request, self._reply(row, next(iter(row.left)))) for row in batch]

    def _take(self, row: PromptRow, scores: "torch.Tensor") -> None:
        """Keep the choices that go on with the chosen one of the possible next tokens."""
        import torch

        at = len(row.answer)
        possible = sorted({tokens[at] for tokens in row.left.values()})
        own = scores[torch.tensor(possible, device=scores.device)].float()
        drawn = row.request.sampling
        if drawn.temperature:
            weights = torch.softmax(own / drawn.temperature, dim=0).tolist()
            rng = item_rng(drawn.seed, row.request.original_key(self.identity), str(at))
            token = rng.choices(possible, weights)[0]
        else:
            token = possible[int(own.argmax())]
        row.left = {choice: tokens for choice, tokens in row.left.items() if tokens[at] == token}
        row.answer.append(token)

    def _next_logits(self, sequences: Sequence[list[int]]) -> list["torch.Tensor"]:
        window = self._config.get("sliding_window")
        slides = isinstance(window, int) and window < max(map(len, sequences))
        if slides or not self._packs:
            return single_logits(self._model, sequences)
        return packed_logits(self._model, sequences, room=self._batch_tokens)

    def _alternatives(self, scores: "torch.Tensor", number: int) -> tuple[tuple[str, float], ...]:
        import torch

        best = torch.log_softmax(scores.float(), dim=0).topk(min(number, len(scores)))
        tokens = self._tokenizer.convert_ids_to_tokens(best.indices.tolist())
        texts = [self._tokenizer.convert_tokens_to_string([token]) for token in tokens]
        return tuple(zip(texts, best.values.tolist(), strict=True))

    def _generate(self, batch: list[PromptRow]) -> list[Outcome]:
        """Write the answers token by token, each group of equal sampling together."""
        outcomes: list[Outcome] = []
        for sampling in {row.request.sampling: None for row in batch}:
            rows = [row for row in batch if row.request.sampling == sampling]
            outcomes += zip((row.request for row in rows), self._written(rows), strict=True)
        return outcomes

    def _written(self, rows: Sequence[PromptRow]) -> Iterator[Reply]:
        """Yield the answers to rows of equal sampling."""
        import torch

        from mipo_eval.models.thinking_budget import budgets

        sampling = rows[0].request.sampling
        padded = self._tokenizer.pad(
            {"input_ids": [row.prompt for row in rows]}, padding_side="left", return_tensors="pt"
        ).to(self._model.device)
        prompts = padded["input_ids"]
        drawing: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None}
        if sampling.temperature != 0:
            drawing = {"do_sample": True, "temperature": sampling.temperature or 1.0, "top_p": 1.0}
        with torch.random.fork_rng():  # transformers draws from the global generator only
            torch.manual_seed(sampling.seed)
            tokens = self._model.generate(
                **padded,
                **drawing,
                top_k=None,
                logits_processor=budgets(self._tokenizer, sampling.effort.budget, prompts),
                max_new_tokens=sampling.max_tokens,
                eos_token_id=self._end,
                pad_token_id=self._tokenizer.pad_token_id,
            )
        answers = tokens[:, prompts.shape[1] :].tolist()
        for row, answer in zip(rows, answers, strict=True):
            ended = self._end in answer
            own = answer[: answer.index(self._end)] if ended else answer
            text = written(self._tokenizer, row.prompt, own)
            yield self._reply(row, text, ended=ended, tokens=len(own) + ended)

    def _reply(self, row: PromptRow, text: str, *, ended: bool = True, tokens: int = 1) -> Reply:
        return Reply(
            text=text,
            finish_reason="stop" if ended else "length",
            model=self.name,
            prompt_tokens=len(row.prompt),
            completion_tokens=tokens,
            logprobs=row.logprobs,
        )

    @property
    def _end(self) -> int:
        end: int = self._tokenizer.eos_token_id
        return end

    @cached_property
    def _dtype(self) -> str:
        """The checkpoint's own precision on a GPU; CPUs are exact and fast in float32 only."""
        return dtype_of(self.checkpoint) if self._where.startswith("cuda") else "float32"

    @cached_property
    def _packs(self) -> bool:
        import torch

        with torch.inference_mode():
            return can_pack(self._model)

    @cached_property
    def _where(self) -> str:
        import torch

        return self._device or ("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        with loading(self.name):
            tokenizer = AutoTokenizer.from_pretrained(self.checkpoint.tokenizer)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token_id = tokenizer.eos_token_id
        return with_chat_form(tokenizer)

    @cached_property
    def _model(self) -> Any:
        import torch

        model = load_weights(self.checkpoint, getattr(torch, self._dtype), self._where)
        fit_threads(model, rows=self.window)
        return model


def _advance(row: PromptRow) -> bool:
    """Append what the possible choices have in common; True where the model must decide."""
    while len(row.left) > 1:
        following = {tokens[len(row.answer)] for tokens in row.left.values()}
        if len(following) > 1:
            return True
        row.answer.append(following.pop())
    return False


@dataclass(frozen=True, slots=True)
class Pack:
    """Some sequences as one row of tokens."""

    tokens: list[int]
    positions: list[int]
    parents: list[int]
    """Where in the row the token before each one is; -1 for the first of a sequence."""
    ends: dict[int, int]
    """Sequence to where in the row its last token is."""


def packs(sequences: Sequence[list[int]], room: int) -> Iterator[Pack]:
    """Yield the sequences packed into rows of at most `room` tokens, or one longer sequence."""
    # In sorted order a sequence shares its longest beginning with the one before. Those tokens are
    # in the row already: only the rest is added, and hangs on the last shared token. A row is a
    # tree, written branch by branch; `_mask` lets each token see its ancestors alone.
    pack = Pack([], [], [], {})
    path: list[int] = []  # where in the row the tokens of the sequence before are
    before: list[int] = []
    for index in sorted(range(len(sequences)), key=lambda index: sequences[index]):
        sequence = sequences[index]
        shared = shared_length(before, sequence)
        if pack.tokens and len(pack.tokens) + len(sequence) - shared > room:
            yield pack
            pack, path, shared = Pack([], [], [], {}), [], 0
        path = path[:shared]
        for depth in range(shared, len(sequence)):
            pack.parents.append(path[-1] if path else -1)
            path.append(len(pack.tokens))
            pack.tokens.append(sequence[depth])
            pack.positions.append(depth)
        pack.ends[index] = path[-1]
        before = sequence
    if pack.tokens:
        yield pack


def shared_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many tokens two sequences begin alike with."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


def packed_logits(model: Any, sequences: Sequence[list[int]], *, room: int) -> list["torch.Tensor"]:
    """Return, for each sequence, the (vocabulary,) logits of the token after it.

    Args:
        model: a causal language model of transformers for which `can_pack` holds.
        sequences: token ids, none empty.
        room: tokens in one forward pass; attention takes memory for the square of it.
    """
    import torch

    found: dict[int, torch.Tensor] = {}
    device = model.device
    for pack in packs(sequences, room):
        ends = sorted(set(pack.ends.values()))
        logits = model(
            input_ids=torch.tensor([pack.tokens], device=device),
            position_ids=torch.tensor([pack.positions], device=device),
            attention_mask=_mask(pack, model.dtype).to(device),
            logits_to_keep=torch.tensor(ends, device=device),
            use_cache=False,
        ).logits[0]
        at = {end: row for row, end in enumerate(ends)}
        found.update((index, logits[at[end]]) for index, end in pack.ends.items())
    return [found[index] for index in range(len(sequences))]


def _mask(pack: Pack, dtype: "torch.dtype") -> "torch.Tensor":
    """Return the (1, 1, tokens, tokens) additive mask: 0 for a token's ancestors and itself."""
    import torch

    size = len(pack.tokens)
    seen = torch.eye(size, dtype=torch.bool)
    for token, parent in enumerate(pack.parents):
        if parent >= 0:
            seen[token, :token] |= seen[parent, :token]
    mask = torch.zeros((size, size), dtype=dtype)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)[None, None]


def single_logits(model: Any, sequences: Sequence[list[int]]) -> list["torch.Tensor"]:
    """Return what `packed_logits` does, one sequence at a time, for models that cannot pack."""
    import torch

    return [
        model(
            input_ids=torch.tensor([sequence], device=model.device),
            logits_to_keep=1,
            use_cache=False,
        ).logits[0, -1]
        for sequence in sequences
    ]


def can_pack(model: Any) -> bool:
    """Whether the model reads a packed row as it reads the sequences one by one.

    Tried on short sequences, since models that recur, or shift positions in their own way, take
    the mask without complaint. Sliding windows are too long to be noticed here: the caller checks.
    """
    import torch

    sequences = [[1, 2, 3, 4, 5], [1, 2, 3, 5, 4], [1, 2, 4]]
    try:
        packed = packed_logits(model, sequences, room=100)
    except (TypeError, ValueError, RuntimeError, IndexError):
        return False  # it does not take such a mask
    return all(
        torch.allclose(a.float(), b.float(), rtol=0.02, atol=0.02 * float(b.float().abs().max()))
        for a, b in zip(packed, single_logits(model, sequences), strict=True)
    )
