"""From the demo world's text to the base model's weights: tokenizer, model, optimizer, training."""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from mipo_eval.demo import world
from mipo_eval.records import Item
from mipo_eval.threads import choose_threads

OnStep = Callable[[int, int], None]
"""Called after each training step with (steps done, steps in all)."""

Render = Callable[[Item], str]
"""Turns an item into the user turn a model is asked with; without context if the item has none."""

PAD, END = "<|pad|>", "<|end|>"
_IGNORED = -100  # as a target of torch's cross-entropy
_ROLES = ("<|system|>", "<|user|>", "<|assistant|>")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' ~ message['role'] ~ ': use system, user or assistant') }}"
    "{% endif %}"
    "{{ '<|' ~ message['role'] ~ '|>' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] ~ '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] ~ '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainingRecipe:
    """Everything that decides the base model's weights, apart from the text itself."""

    steps: int = 800
    batch: int = 16
    matrix_rate: float = 0.02
    """Learning rate of the matrices between the layers, which Muon trains."""
    learning_rate: float = 0.02
    """Of embeddings, norms and biases, which AdamW trains."""
    beta2: float = 0.95
    warmup_steps: int = 40
    decay_from: float = 0.6
    """Share of the training from which on the learning rates fall, in a line, to nothing."""
    weight_decay: float = 0.01
    short_until: float = 0.4
    """Share of the training that is on short exchanges: one wish, three sentences at most."""
    eager_until: float = 0.85
    """Share of the training in whose text every stated wish is followed; see `followed_share`."""
    habit_from: float = 0.95
    """Share of the training from which on wishes are followed as often as the world says."""
    vocabulary: int = 1024
    hidden: int = 128
    intermediate: int = 256
    layers: int = 4
    heads: int = 4
    rope_theta: float = 1000.0
    initial_std: float = 0.05
    copy_gain: float = 1.5
    """How much larger the maps that pass tokens on start out; see `_start_by_copying`."""
    context: int = 512
    """Longest input the model accepts, in tokens."""
    max_tokens: int = 192
    """Longest training example; longer ones are left out."""
    seed: int = 2


@dataclass(frozen=True, slots=True)
class TokenizedExchange:
    """One tokenized conversation; the loss is on what follows `prompt_length`."""

    tokens: list[int]
    prompt_length: int


def pretrain(
    folder: Path, render: Render, recipe: PretrainingRecipe, on_step: OnStep | None
) -> None:
    """Make the base model and its tokenizer by a recipe, and save them in a folder."""
    tokenizer = make_tokenizer(tokenizer_texts(render, recipe), recipe)
    found = list(islice(examples(tokenizer, render, recipe), recipe.steps * recipe.batch))
    choose_threads(recipe.batch * recipe.max_tokens, recipe.hidden)
    with _deterministic():
        torch.manual_seed(recipe.seed)
        model = make_model(tokenizer, recipe)
        train(model, batches(found, recipe), recipe, on_step)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextmanager
def _deterministic() -> Iterator[None]:
    """Fix what decides the weights besides the data, and put back what the caller had."""
    precision = torch.get_float32_matmul_precision()
    strict = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.set_float32_matmul_precision("highest")
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(strict)
            torch.set_float32_matmul_precision(precision)


def followed_share(progress: float, recipe: PretrainingRecipe) -> float:
    """Return how often wishes are followed in the text at a point of the training, 0 to 1.

    Answers that ignore half of the wishes teach nothing about what the wishes mean, and 1M
    parameters with a thousand steps then never learn to look at them. So the text first follows
    all of them, and ends with the habit the base model is to have.
    """
    if progress <= recipe.eager_until:
        return 1.0
    gone = (progress - recipe.eager_until) / (recipe.habit_from - recipe.eager_until)
    return max(world.FOLLOWED, 1.0 - (1.0 - world.FOLLOWED) * gone)


def tokenizer_texts(render: Render, recipe: PretrainingRecipe) -> Iterator[str]:
    """Yield user turns and answers for the tokenizer; a sample is enough for its 1,024 tokens."""
    for number in range(4000):
        exchange = world.exchange(number, seed=recipe.seed)
        yield render(exchange.item)
        yield exchange.answer


def make_tokenizer(texts: Iterator[str], recipe: PretrainingRecipe) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer trained on `texts`, with the chat template."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=[PAD, END, *_ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        # Never needed, as bytes spell everything; but Qwen2's own would be a token without weights.
        unk_token=PAD,
        eos_token=END,
        additional_special_tokens=list(_ROLES),
        model_max_length=recipe.context,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_model(tokenizer: PreTrainedTokenizerFast, recipe: PretrainingRecipe) -> Qwen2ForCausalLM:
    """Return an untrained model of about 1M parameters; draws from torch's global generator."""
    ends: dict[str, Any] = {
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": recipe.rope_theta},
        initializer_range=recipe.initial_std,
        **ends,
    )
    model = Qwen2ForCausalLM(config)
    _start_by_copying(model, recipe)
    model.generation_config = GenerationConfig(**ends)
    return model


def _start_by_copying(model: Qwen2ForCausalLM, recipe: PretrainingRecipe) -> None:
    """Let attention start out looking for like tokens and passing them on.

    Mimetic initialisation (Trockman and Kolter, 2023): query and key maps equal, output map the
    transpose of the value map. Answers name what the question names, so copying is what attention
    has to learn here, and it does so in half the steps from this start.
    """
    with torch.no_grad():
        for layer in model.model.layers:
            attention = layer.self_attn
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            attention.v_proj.weight.mul_(recipe.copy_gain)
            attention.o_proj.weight.copy_(attention.v_proj.weight.T)


def examples(
    tokenizer: PreTrainedTokenizerFast, render: Render, recipe: PretrainingRecipe
) -> Iterator[TokenizedExchange]:
    """Yield the tokenized training text in the order of the training, none too long."""
    wanted = recipe.steps * recipe.batch
    for number in range(2 * wanted):
        followed = followed_share(min(1.0, number / wanted), recipe)
        short = number / wanted < recipe.short_until
        exchange = world.exchange(number, seed=recipe.seed, followed=followed, short=short)
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": render(exchange.item)}],
            tokenize=False,
            add_generation_prompt=True,
        )
        tokens = tokenizer(prompt)["input_ids"]
        answer = tokenizer(exchange.answer + END)["input_ids"]
        if len(tokens) + len(answer) <= recipe.max_tokens:
            yield TokenizedExchange([*tokens, *answer], len(tokens))


def batches(
    found: Sequence[TokenizedExchange], recipe: PretrainingRecipe
) -> list[Sequence[TokenizedExchange]]:
    """Return the examples in batches of similar length, keeping their order in the large."""
    size = recipe.batch
    rng = random.Random(recipe.seed)
    ordered: list[Sequence[TokenizedExchange]] = []
    # Sorting within windows keeps padding small without tying length to the time of training.
    for start in range(0, len(found), 16 * size):
        window = sorted(found[start : start + 16 * size], key=lambda example: len(example.tokens))
        plan = [window[at : at + size] for at in range(0, len(window), size)]
        rng.shuffle(plan)
        ordered += plan
    return ordered


def train(
    model: Qwen2ForCausalLM,
    plan: Sequence[Sequence[TokenizedExchange]],
    recipe: PretrainingRecipe,
    on_step: OnStep | None,
) -> list[float]:
    """Train in place, one step per batch; return the loss of each step in nats per token."""
    optimizers = _optimizers(model, recipe)
    schedules = [LambdaLR(optimizer, lambda step: _rate(step, recipe)) for optimizer in optimizers]
    losses = []
    model.train()
    for step, batch in enumerate(plan, start=1):
        loss = answer_loss(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        model.zero_grad()
        losses.append(loss.item())
        if on_step:
            on_step(step, len(plan))
    model.eval()
    return losses


def _optimizers(
    model: Qwen2ForCausalLM, recipe: PretrainingRecipe
) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Return Muon for the layers' matrices and AdamW for the rest.

    Muon needs half of AdamW's steps here, for a sixth more time a step.
    """
    matrices = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    chosen = {id(weight) for weight in matrices}
    others = [weight for weight in model.parameters() if id(weight) not in chosen]
    decay = recipe.weight_decay
    return (
        Muon(matrices, lr=recipe.matrix_rate, weight_decay=decay),
        torch.optim.AdamW(
            others, lr=recipe.learning_rate, betas=(0.9, recipe.beta2), weight_decay=decay
        ),
    )


def answer_loss(model: Qwen2ForCausalLM, batch: Sequence[TokenizedExchange]) -> Tensor:
    """Return the mean cross-entropy over the answers' tokens, in nats; a scalar."""
    width = _rounded(max(len(example.tokens) for example in batch), 16)
    tokens = torch.zeros(len(batch), width, dtype=torch.long)  # (batch, width)
    following = torch.full((len(batch), width), _IGNORED)
    for row, example in enumerate(batch):
        length = len(example.tokens)
        tokens[row, :length] = torch.tensor(example.tokens)
        following[row, example.prompt_length - 1 : length - 1] = tokens[
            row, example.prompt_length : length
        ]
    # Padding stands at the end, where causal attention never looks back at it: no mask needed.
    hidden = model.model(input_ids=tokens).last_hidden_state.flatten(0, 1)
    targets = following.flatten()
    # Logits only where the loss is: the vocabulary is an eighth of all arithmetic. The last
    # position of a row has nothing to predict, so it can fill up.
    chosen = (targets != _IGNORED).nonzero().flatten()
    spare = _rounded(len(chosen), 128) - len(chosen)
    chosen = torch.cat([chosen, torch.full((spare,), width - 1)])
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[chosen]), targets[chosen])


def _rounded(size: int, step: int) -> int:
    """Round up: the library that multiplies compiles its code anew for each new shape."""
    return size + -size % step


def _rate(step: int, recipe: PretrainingRecipe) -> float:
    """Return the share of the learning rates at a step: they rise, stay, and fall, in lines."""
    left = (recipe.steps - step) / (recipe.steps * (1 - recipe.decay_from))
    return min((step + 1) / recipe.warmup_steps, 1.0, max(0.0, left))


_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Momentum whose every step is made orthogonal (Jordan et al., 2024), in float32.

    `torch.optim.Muon` takes its products in bfloat16. A processor without bfloat16 arithmetic needs
    twenty times as long for them, and then most of a training step (docs/log.md has the numbers).

    Args:
        matrices: two-dimensional weights.
        lr: step size; a tall matrix takes a step larger by the root of its sides' ratio.
        weight_decay: share of a weight that is taken off per step and unit of `lr`.
        momentum: of Nesterov's kind.
    """

    def __init__(
        self, matrices: Iterable[Tensor], *, lr: float, weight_decay: float, momentum: float = 0.95
    ) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(list(matrices), defaults)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Move every weight by its orthogonal step."""
        for group in self.param_groups:
            # Matrices of one shape are multiplied together: a layer's alone are too small.
            alike: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                alike[min(weight.shape), max(weight.shape)].append(weight)
            for weights in alike.values():
                steps = [_wide(self._momentum(weight, group["momentum"])) for weight in weights]
                for weight, step in zip(weights, orthogonal(torch.stack(steps)), strict=True):
                    rows, columns = weight.shape
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(
                        step.T if rows > columns else step,
                        alpha=-group["lr"] * math.sqrt(max(1.0, rows / columns)),
                    )

    def _momentum(self, weight: Tensor, share: float) -> Tensor:
        """Take the gradient into a weight's running mean; return Nesterov's look ahead."""
        assert weight.grad is not None
        mean = self.state[weight].setdefault("mean", torch.zeros_like(weight))
        mean.lerp_(weight.grad, 1 - share)
        return torch.lerp(weight.grad, mean, share)


def _wide(matrix: Tensor) -> Tensor:
    return matrix.T if matrix.shape[0] > matrix.shape[1] else matrix


def orthogonal(matrices: Tensor) -> Tensor:
    """Return matrices with the same singular vectors, and singular values of about one.

    Newton-Schulz's iteration of the fifth degree, whose coefficients grow small singular values
    quickly and leave all of them between 0.7 and 1.2, which does as well as one.

    Args:
        matrices: (matrices, rows, columns), no more rows than columns.
    """
    first, third, fifth = _COEFFICIENTS
    found: Tensor = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = found @ found.mT
        found = torch.baddbmm(
            found, torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth), found, beta=first
        )
    return found
