"""Log-probabilities of responses, for training: text tokenised once, logits of responses only.

    codec = Codec.of(tokenizer)
    batch = padded([(codec.prompt(messages), codec.response("Hi."))])
    add_likelihood_head(model)
    model(**batch)          # (rows, tokens): log p of each response token, 0 elsewhere; in nats

Prompt and response are tokenised apart and joined as ids, so a response has the same tokens behind
every prompt, as it had when it was generated.
"""

import functools
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from mipo_eval.errors import ModelError
from mipo_eval.models.chat import SAID, escaped, prompt_ids, with_chat_form
from mipo_eval.progress import Told

IGNORED = -100
"""Target of a position whose next token is not asked for."""

LOGITS = 1 << 25
"""Logits that exist at a time; more are made in pieces, and each piece again for backward."""


@dataclass(frozen=True, slots=True)
class Codec:
    """Turns conversations into token ids, in the model's own form."""

    tokenizer: Any
    end: int
    """The token that ends a response in this template."""

    @classmethod
    def of(cls, tokenizer: Any) -> "Codec":
        """Return the codec of a tokenizer of transformers.

        Raises:
            ModelError: there is no chat template.
        """
        if not tokenizer.chat_template:
            raise ModelError(
                f"{tokenizer.name_or_path} has no chat template, so it cannot be trained: use an "
                "instruction-tuned model, or put a chat_template.jinja into its folder"
            )
        return cls(tokenizer, _end_of_turn(tokenizer))

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Return the ids of a conversation up to where the model's response begins.

        Raises:
            ModelError: the chat template refuses these messages.
        """
        return prompt_ids(self.tokenizer, messages)

    def response(self, text: str) -> list[int]:
        """Return the ids of a response with the token that ends it; text never makes controls."""
        # Responses are model output: what spells "<|im_end|>" in them must stay text.
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        return [*encoded["input_ids"], self.end]

    def ends(self, model: Any) -> list[int]:
        """Return the tokens that end what a model writes: its own, and its template's."""
        own = model.generation_config.eos_token_id
        return sorted({self.end, *([own] if isinstance(own, int) else own or ())})


def _end_of_turn(tokenizer: Any) -> int:
    """Return the control token a template puts behind a response, else the end of text."""
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": SAID}]
    text: str = with_chat_form(tokenizer).apply_chat_template(turns, tokenize=False)
    _, found, behind = text.rpartition(SAID)
    if not found:
        raise escaped(tokenizer.name_or_path)
    ids = tokenizer(behind, add_special_tokens=False)["input_ids"]
    controls = set(tokenizer.all_special_ids)
    controls |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    end = next((token for token in ids if token in controls), tokenizer.eos_token_id)
    if end is None:
        raise ModelError(
            f"the tokenizer of {tokenizer.name_or_path} has no token that ends a response:"
            " set eos_token in its tokenizer_config.json"
        )
    return int(end)


def padded(
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]], *, filler: int = 0, whole: bool = False
) -> dict[str, Tensor]:
    """Return prompts with their responses as one batch, padded behind the text.

    Causal attention never sees what is behind, so neither a mask nor positions are needed.

    Neither a prompt nor a response is empty.

    Returns:
        `input_ids` and `targets`, both (rows, tokens). A row holds all but the last token, or all
        where it is `whole`; `targets` holds the token that follows where it is of the response,
        else IGNORED.
    """
    width = max(len(prompt) + len(response) for prompt, response in pairs) - 1 + whole
    ids = torch.full((len(pairs), width), filler)
    targets = torch.full((len(pairs), width), IGNORED)
    for row, (prompt, response) in enumerate(pairs):
        length = len(prompt) + len(response) - 1
        ids[row, : length + whole] = torch.tensor([*prompt, *response][: length + whole])
        targets[row, len(prompt) - 1 : length] = torch.tensor(response)
    return {"input_ids": ids, "targets": targets}


@torch.no_grad()
def summed_logprobs(
    model: Any,
    codec: Codec,
    prompts: Sequence[Sequence[Mapping[str, str]]],
    responses: Sequence[Sequence[int]],
    *,
    rows: int,
) -> Tensor:
    """Return (responses,) log pi(y|x) in nats of responses, as token ids, to conversations.

    The model has a likelihood head and reads `rows` of them in one forward pass.
    """
    pairs = [(codec.prompt(one), ids) for one, ids in zip(prompts, responses, strict=True)]
    return response_logprobs(model, pairs, rows=rows)


@torch.no_grad()
def response_logprobs(
    model: Any,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    rows: int,
    told: Told = lambda _: None,
) -> Tensor:
    """Return (pairs,) log pi(y|x) in nats of prompts with responses, both as token ids.

    The model has a likelihood head and reads `rows` of them in one forward pass. `told` hears how
    many more were read.
    """
    device = next(model.parameters()).device
    found = []
    for start in range(0, len(pairs), rows):
        some = pairs[start : start + rows]
        batch = {name: one.to(device) for name, one in padded(some).items()}
        found.append(model(**batch).sum(dim=1))
        told(len(some))
    return torch.cat(found)


def add_likelihood_head(model: Any) -> None:
    """Let `model(..., targets=t)` return log-probabilities of the targets instead of logits.

    The result is (rows, tokens), in nats, float32 or wider, and 0 where `t` is IGNORED; logits
    are made for the other positions only. It happens within the model's forward, so that FSDP,
    DeepSpeed, DDP and autocast see an ordinary call. Without `targets` nothing is changed. With
    `output_router_logits=True` a mixture of experts returns its router's logits beside the result.

    Args:
        model: a causal language model of transformers, before any wrapping (peft, accelerate).

    Raises:
        ModelError: the architecture turns hidden states into logits in a way of its own.
    """
    original = model.forward
    transform = _logit_transform(model.config.get_text_config())

    @functools.wraps(type(model).forward)
    def forward(self: Any, *args: Any, targets: Tensor | None = None, **kwargs: Any) -> Any:
        if targets is None:
            return original(*args, **kwargs)
        # Looked up at each call: wrappers replace both after this patch.
        outputs = self.base_model(*args, **{**kwargs, "use_cache": False})
        hidden, wanted = outputs.last_hidden_state, targets != IGNORED
        found = _logprobs(self.get_output_embeddings(), transform, hidden[wanted], targets[wanted])
        spread = found.new_zeros(targets.shape).masked_scatter(wanted, found)
        return (spread, outputs.router_logits) if kwargs.get("output_router_logits") else spread

    model.forward = types.MethodType(forward, model)
    _check_head(model)


def tolerance(model: Any) -> float:
    """Return by how many nats two ways to read a few tokens with a model may differ by rounding.

    Absolute: of a response of 30 nats, 2 % would be as much as a training moves.
    """
    return 1e-3 if model.dtype.itemsize >= 4 else 0.02


def _logit_transform(config: Any) -> Callable[[Tensor], Tensor]:
    """Return what an architecture does to the output of its head: some scale it or cap it."""
    scale = getattr(config, "logit_scale", None)
    if scale is None and (divisor := getattr(config, "logits_scaling", None)):
        scale = 1.0 / divisor
    cap = getattr(config, "final_logit_softcapping", None)

    def transform(logits: Tensor) -> Tensor:
        wide = logits if logits.dtype == torch.float64 else logits.float()
        if scale is not None and scale != 1.0:
            wide = wide * float(scale)
        return wide if cap is None else float(cap) * torch.tanh(wide / float(cap))

    return transform


def _logprobs(
    head: Any, transform: Callable[[Tensor], Tensor], hidden: Tensor, targets: Tensor
) -> Tensor:
    """Return (positions,) log-probabilities from (positions, width) hidden states."""

    def piece(states: Tensor, wanted: Tensor) -> Tensor:
        logits = transform(head(states))
        return -functional.cross_entropy(logits, wanted, reduction="none")

    size = max(1, LOGITS // head.out_features)  # its weights may be sharded, their shape with them
    if len(hidden) <= size:
        return piece(hidden, targets)
    pieces = zip(torch.split(hidden, size), torch.split(targets, size), strict=True)
    return torch.cat([checkpoint(piece, *one, use_reentrant=False) for one in pieces])


def _check_head(model: Any) -> None:
    """Compare the head with the model's own logits, once, on four tokens."""
    if any(parameter.is_meta for parameter in model.parameters()):
        return  # weights arrive later, as on every process but the first under FSDP
    unknown = ModelError(
        f"{type(model).__name__} turns hidden states into logits in a way of its own, which"
        " training does not know: use another architecture"
    )
    training = model.training
    ids = torch.arange(4, device=model.device)[None] % model.config.get_text_config().vocab_size
    model.eval()
    with torch.no_grad():
        try:
            ours = model(ids[:, :-1], targets=ids[:, 1:])
        except (AttributeError, TypeError):  # Llama-4 has no body apart from its head
            raise unknown from None
        logits = model(ids[:, :-1], use_cache=False).logits
    model.train(training)
    theirs = torch.log_softmax(logits.to(ours.dtype), -1).gather(2, ids[:, 1:, None])[..., 0]
    if not float((ours - theirs).abs().max()) <= tolerance(model):
        raise unknown
