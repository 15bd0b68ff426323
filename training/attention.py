"""Attention over packed rows: three forms with one result, chosen by `DpoSettings.attention`.

- split: the prompt once, then all responses beside each other with the prompt's keys before their
  own, so that no pair of tokens is computed that does not see each other. The default.
- flex: FlexAttention with a block mask: compiled, skips blocks that nobody sees. GPUs only.
- dense: scaled dot-product attention with a (tokens, tokens) mask; works wherever a mask does.
"""

from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from mipo_eval.training.packing import Layout, block_mask, visible

Attention = Literal["split", "flex", "dense"]

_IMPLEMENTATIONS = {"split": "mipo_split", "flex": "flex_attention", "dense": "sdpa"}


def use_attention(model: Any, attention: Attention) -> None:
    """Let a model of transformers compute attention in the given form.

    Raises:
        ValueError: the model does not take it.
    """
    from transformers import AttentionInterface

    AttentionInterface.register("mipo_split", split_attention)
    model.set_attn_implementation(_IMPLEMENTATIONS[attention])


def mask_inputs(
    attention: Attention, segments: Tensor, layouts: tuple[Layout, ...]
) -> dict[str, Any]:
    """Return what makes a model keep the parts of packed rows apart, as arguments of its call."""
    if attention == "split":
        return {"layouts": layouts}
    mask = block_mask(segments) if attention == "flex" else visible(segments)
    return {"attention_mask": mask}


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

    def side_by_side(states: Tensor) -> Tensor:  # (responses, heads, longest, width)
        own = states[:, prompt:end] if at is None else states.index_select(1, at)
        return own.reshape(heads, count, longest, width).transpose(0, 1)

    def with_prompt(states: Tensor) -> Tensor:
        before = states[None, :, :prompt].expand(count, heads, prompt, width)
        return torch.cat([before, side_by_side(states)], dim=2)

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
