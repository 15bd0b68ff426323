"""A prompt with its N + 1 responses as one sequence, so that the prompt is read once.

Three tokens of prompt (1 2 3), a chosen response (4 5) and a rejected one (6 7 8) become one row:

    tokens      1 2 | 3 4 | 3 6 7      every response begins with the last token of the prompt,
    positions   0 1 | 2 3 | 2 3 4      which predicts its first; its own last token predicts nothing
    targets     - - | 4 5 | 6 7 8
    segments    0 0 | 1 1 | 2 2 2      a token sees segment 0 and its own, up to itself

Attention over such rows has two forms with one result, chosen by `settings.attention`:

- split: the prompt once, then all responses beside each other with the prompt's keys before their
  own, so that no pair of tokens is computed that does not see each other. The default.
- dense: scaled dot-product attention with a (tokens, tokens) mask; works wherever a mask does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from mipo_eval.errors import ConfigError
from mipo_eval.training.logprobs import IGNORED, padded, tolerance
from mipo_eval.training.recipes import AttentionChoice

PADDING = -1
"""Segment of what is behind a row's text; nothing that counts sees it."""

PackedAttention = Literal["split", "dense"]

_IMPLEMENTATIONS = {"split": "mipo_split", "dense": "sdpa"}

_Kept = TypeVar("_Kept")


class Kept(NamedTuple, Generic[_Kept]):
    """What can be trained on, and what was left out."""

    groups: list[_Kept]
    dropped: Mapping[str, int]
    """Reason to count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenGroup:
    """A prompt and its responses as token ids."""

    item_id: str
    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]
    """Of a pair: the chosen one first, then the rejected ones."""

    @property
    def tokens(self) -> int:
        """Length of the packed row."""
        return len(self.prompt) - 1 + sum(map(len, self.responses))


@dataclass(frozen=True, slots=True)
class Layout:
    """Where in a row its parts are; travels through the model to the attention."""

    prompt: int
    """Tokens of segment 0."""
    responses: tuple[int, ...]
    """Tokens of segments 1, 2, ..."""

    @classmethod
    def of(cls, group: TokenGroup, *, whole: bool = False) -> "Layout":
        """Return the layout of a packed group."""
        return cls(len(group.prompt) - 1, tuple(len(one) + whole for one in group.responses))


def packed(
    groups: Sequence[TokenGroup], *, filler: int = 0, whole: bool = False
) -> dict[str, Tensor]:
    """Return groups as rows of one batch, each packed as the module says.

    Responses are read with their own last token where they are `whole`, although it predicts
    nothing: a router is measured on it, too.

    Returns:
        `input_ids`, `position_ids`, `targets` and `segments`, all (groups, tokens).
    """
    shape = (len(groups), max(group.tokens + whole * len(group.responses) for group in groups))
    ids, positions = torch.full(shape, filler), torch.zeros(shape, dtype=torch.long)
    targets, segments = torch.full(shape, IGNORED), torch.full(shape, PADDING)
    for row, group in enumerate(groups):
        *head, last = group.prompt
        at = len(head)
        ids[row, :at] = torch.tensor(head, dtype=torch.long)
        positions[row, :at] = torch.arange(at)
        segments[row, :at] = 0
        for number, response in enumerate(group.responses, start=1):
            end = at + len(response) + whole
            # Shifted by one: the prompt's last token predicts the response's first, so it stands
            # in every segment, and the response's own last token in none.
            ids[row, at:end] = torch.tensor([last, *response][: end - at])
            # Positions start again behind the prompt, as if no other response stood there.
            positions[row, at:end] = torch.arange(len(head), len(head) + end - at)
            targets[row, at : at + len(response)] = torch.tensor(response)
            segments[row, at:end] = number
            at = end
    return {"input_ids": ids, "position_ids": positions, "targets": targets, "segments": segments}


def visible(segments: Tensor) -> Tensor:
    """Return which token of (rows, tokens) segments sees which: (rows, 1, tokens, tokens)."""
    seen = segments[:, None, :]
    own = (seen == 0) | (seen == segments[:, :, None])
    return torch.tril(own)[:, None]


def response_sums(logprobs: Tensor, segments: Tensor, count: int) -> Tensor:
    """Return the (rows, count) log-probability of each response of packed rows, in nats.

    From (rows, tokens) log-probabilities, 0 where a token is of no response, and segments as of
    `packed`. Rows with fewer responses than `count` end in zeros.
    """
    # Prompt and padding are both added to column 0, which is then left out.
    sums = logprobs.new_zeros(len(logprobs), count + 1)
    return sums.scatter_add(1, segments.clamp(min=0), logprobs)[:, 1:]


def split_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **how: Any,
) -> tuple[Tensor, None]:
    """Return (rows, tokens, heads, width) attention of packed rows, or causal ones without layouts.

    Args:
        module: the layer that asks.
        query: (rows, heads, tokens, width)
        key: (rows, key heads, tokens, width)
        value: (rows, key heads, tokens, width)
        attention_mask: never made for this form.
        how: what transformers hands on; `scaling` of the scores (None: 1 / sqrt(width)), and
            `layouts`, one per row.
    """
    layouts: tuple[Layout, ...] = how.get("layouts", ())
    scaling: float | None = how.get("scaling")
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if not layouts:
        found = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling
        )
        return found.transpose(1, 2).contiguous(), None
    rows = [
        _row(query[row], key[row], value[row], layout, scaling)
        for row, layout in enumerate(layouts)
    ]
    return torch.stack(rows).transpose(1, 2).contiguous(), None


def _row(query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float | None) -> Tensor:
    """Return the (heads, tokens, width) attention of one row."""
    prompt, count, longest = layout.prompt, len(layout.responses), max(layout.responses)
    heads, tokens, width = query.shape
    end = prompt + sum(layout.responses)
    prompt_part = functional.scaled_dot_product_attention(
        query[None, :, :prompt], key[None, :, :prompt], value[None, :, :prompt],
        is_causal=True, scale=scale,
    )[0]  # fmt: skip
    at, back = _places(layout, query.device)

    # The responses become a batch, padded to the longest, so that one call computes all of them
    # and no query is multiplied with another response's keys.
    def side_by_side(states: Tensor) -> Tensor:  # (responses, heads, longest, width)
        own = states[:, prompt:end] if at is None else states.index_select(1, at)
        return own.reshape(heads, count, longest, width).transpose(0, 1)

    def with_prompt(states: Tensor) -> Tensor:  # expanded, not copied, until `cat`
        before = states[None, :, :prompt].expand(count, heads, prompt, width)
        return torch.cat([before, side_by_side(states)], dim=2)

    # Query t of a response sees the whole prompt and its own keys up to t: a triangle moved right.
    mask = query.new_ones(longest, prompt + longest, dtype=torch.bool).tril(prompt)
    own = functional.scaled_dot_product_attention(
        side_by_side(query), with_prompt(key), with_prompt(value), attn_mask=mask, scale=scale
    )
    own = own.transpose(0, 1).flatten(1, 2)
    parts = [prompt_part, own if back is None else own.index_select(1, back)]
    if end < tokens:
        parts.append(query.new_zeros(heads, tokens - end, width))
    return torch.cat(parts, dim=1)


@lru_cache(maxsize=64)  # the same for all layers, and again in the backward pass
def _places(layout: Layout, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
    """Return where in the row each place of the padded responses is, and the way back.

    None where all responses are of one length, so that nothing has to move.
    """
    longest = max(layout.responses)
    if min(layout.responses) == longest:
        return None, None
    at: list[int] = []
    back: list[int] = []
    start = layout.prompt
    for number, length in enumerate(layout.responses):
        # What pads a response stands behind it, where its own tokens do not look.
        at += [*range(start, start + length), *[start] * (longest - length)]
        back += range(number * longest, number * longest + length)
        start += length
    return torch.tensor(at, device=device), torch.tensor(back, device=device)


@dataclass(frozen=True, slots=True)
class GroupReader:
    """Makes batches of groups, and reads them."""

    attention: PackedAttention | None
    """Form of attention over packed rows; None: every response in a row of its own."""
    filler: int = 0
    """Token id to pad with."""
    routed: bool = False
    """Whether the model is a mixture of experts whose router is measured."""

    def collate(self, groups: Sequence[TokenGroup]) -> dict[str, Any]:
        """Return groups as one batch.

        Returns:
            The tensors of `packed`, or of `padded` with a row per response, whose segment is 0;
            `present`, (groups, responses), True where a group has that many; and the `layouts` of
            packed rows.
        """
        how: dict[str, Any] = {"filler": self.filler, "whole": self.routed}
        counts = torch.tensor([len(group.responses) for group in groups])
        present = torch.arange(int(counts.max())) < counts[:, None]
        if self.attention is None:
            rows = [(group.prompt, response) for group in groups for response in group.responses]
            batch = padded(rows, **how)
            ends = torch.tensor([sum(map(len, row)) for row in rows]) - (0 if self.routed else 1)
            behind = torch.arange(batch["targets"].shape[1]) >= ends[:, None]
            return {**batch, "segments": behind * PADDING, "present": present}
        layouts = tuple(Layout.of(group, whole=self.routed) for group in groups)
        return {**packed(groups, **how), "layouts": layouts, "present": present}

    def logprobs(self, model: Any, batch: dict[str, Any]) -> Tensor:
        """Return the (groups, responses) log-probabilities of a batch, in nats; 0 where absent.

        The model has a likelihood head; the batch is of `collate`, on the model's device.
        """
        return self._sums(model(**self._inputs(batch)), batch)

    def routed_logprobs(self, model: Any, batch: dict[str, Any]) -> tuple[Tensor, Sequence[Tensor]]:
        """Return what `logprobs` does, and the logits of the model's router, layer by layer."""
        found, routed = model(**self._inputs(batch), output_router_logits=True)
        return self._sums(found, batch), routed

    def _sums(self, logprobs: Tensor, batch: dict[str, Any]) -> Tensor:
        present: Tensor = batch["present"]
        if self.attention is not None:
            return response_sums(logprobs, batch["segments"], present.shape[1])
        return logprobs.new_zeros(present.shape).masked_scatter(present, logprobs.sum(dim=1))

    def _inputs(self, batch: dict[str, Any]) -> dict[str, Any]:
        inputs = {"input_ids": batch["input_ids"], "targets": batch["targets"]}
        if self.attention is None:
            return inputs
        segments = batch["segments"]
        inputs["position_ids"] = batch["position_ids"]
        if self.attention == "split":
            inputs["layouts"] = batch["layouts"]
        else:
            inputs["attention_mask"] = visible(segments)
        return inputs


def packing_reader(model: Any, attention: PackedAttention, *, filler: int = 0) -> GroupReader:
    """Return a reader of packed rows, and set the model up for it; `refusal` says whether it can.

    Raises:
        ValueError: a model of transformers does not take that form of attention.
    """
    from transformers import AttentionInterface

    AttentionInterface.register("mipo_split", split_attention)
    model.set_attn_implementation(_IMPLEMENTATIONS[attention])
    return GroupReader(attention, filler)


def choose_reader(
    model: Any, tokenizer: Any, groups: Sequence[TokenGroup], attention: AttentionChoice
) -> tuple[GroupReader, str | None]:
    """Return how the model reads groups, and a remark where that is not as it should be.

    Raises:
        ConfigError: the model or the machine cannot do what was asked for.
    """
    from accelerate.utils import broadcast_object_list

    filler = tokenizer.pad_token_id or 0
    if attention == "rows":
        return GroupReader(None, filler), None
    longest = max(len(one.prompt) + max(map(len, one.responses)) for one in groups)
    form = "split" if attention == "auto" else attention
    # The first process decides for all: under FSDP the others have no weights to try it with yet.
    refused = broadcast_object_list([refusal(model, form, longest=longest)])[0]
    if refused is None:
        return packing_reader(model, form, filler=filler), None
    why = f"{type(model).__name__} cannot read several responses behind one prompt ({refused})"
    if attention != "auto":
        raise ConfigError(f"settings.attention is {form}, but {why}: use auto or rows")
    return (
        GroupReader(None, filler),
        f"{why}: every response is read with a prompt of its own, slower",
    )


_PROBES = (
    TokenGroup(item_id="", prompt=(1, 2, 3, 4), responses=((5, 6, 7), (8, 3), (2,))),
    TokenGroup(item_id="", prompt=(7,), responses=((1, 2), (3, 4, 5))),
)


def refusal(model: Any, attention: PackedAttention, *, longest: int) -> str | None:
    """Return why a model cannot read packed rows, or None where it can; the model stays as it was.

    Tried on short sequences, since models that recur, or shift positions in their own way, take
    the input without complaint. Sliding windows are too long to be noticed so; they are looked up.
    The model has a likelihood head; `longest` is of a prompt with one response, in tokens.
    """
    window = _narrowest_layer(model.config.get_text_config())
    if window < longest:
        return f"a layer of it sees {window:g} tokens back at most, texts have {longest}"
    if any(parameter.is_meta for parameter in model.parameters()):
        return None  # weights arrive later; the first process has them, and decides
    before = model.config._attn_implementation
    single = _probe(model, GroupReader(None))  # by the model's own attention
    try:
        together = _probe(model, packing_reader(model, attention))
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        return " ".join(str(error).split())[:120]
    finally:
        model.set_attn_implementation(before)
    apart = float((together - single).abs().max())
    if apart <= tolerance(model):
        return None
    return f"it reads packed responses differently from single ones: {apart:.2g} nats apart"


def _narrowest_layer(config: Any) -> float:
    """Return how many tokens back the most short-sighted layer sees; 0 for layers that recur."""
    window = float(getattr(config, "sliding_window", None) or "inf")
    kinds = set(getattr(config, "layer_types", None) or ())
    if kinds - {"full_attention", "sliding_attention"}:
        return 0
    return window if not kinds or "sliding_attention" in kinds else float("inf")


@torch.no_grad()
def _probe(model: Any, reader: GroupReader) -> Tensor:
    """Return the log-probabilities of the probes."""
    batch = {
        key: value.to(model.device) if isinstance(value, Tensor) else value
        for key, value in reader.collate(_PROBES).items()
    }
    training = model.training
    model.eval()
    try:
        return reader.logprobs(model, batch)
    finally:
        model.train(training)
