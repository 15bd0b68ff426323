"""A prompt with its N + 1 responses as one sequence, so that the prompt is read once.

Three tokens of prompt (1 2 3), a chosen response (4 5) and a rejected one (6 7 8) become one row:

    tokens      1 2 | 3 4 | 3 6 7      every response begins with the last token of the prompt,
    positions   0 1 | 2 3 | 2 3 4      which predicts its first; its own last token predicts nothing
    targets     - - | 4 5 | 6 7 8
    segments    0 0 | 1 1 | 2 2 2      a token sees segment 0 and its own, up to itself
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mipo_eval.training.job import Example
from mipo_eval.training.likelihood import IGNORED, Codec, padded

PADDING = -1
"""Segment of what is behind a row's text; nothing that counts sees it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenGroup:
    """One example as token ids."""

    item_id: str
    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]
    """The chosen one first, then the rejected ones."""

    @property
    def tokens(self) -> int:
        """Length of the packed row."""
        return len(self.prompt) - 1 + sum(map(len, self.responses))


class Fitting(NamedTuple):
    """What of the examples can be trained on."""

    groups: list[TokenGroup]
    dropped: dict[str, int]
    """Reason to count of what was left out."""


def tokenize(examples: Sequence[Example], codec: Codec, *, longest: int | None) -> Fitting:
    """Return the examples as token ids, without what is too long for the model.

    Args:
        examples: with a chosen response and at least one rejected.
        codec: of the model that is trained.
        longest: tokens of a prompt with one response, at most; None: no limit.
    """
    groups, dropped = [], {"examples": 0, "negatives": 0}
    for example in examples:
        prompt = tuple(codec.prompt(example.prompt))
        texts = (example.chosen or "", *example.rejected)
        chosen, *rejected = (tuple(codec.response(text)) for text in texts)
        room = float("inf") if longest is None else longest - len(prompt)
        kept = [response for response in rejected if len(response) <= room]
        dropped["negatives"] += len(rejected) - len(kept)
        if len(chosen) > room or not kept:
            dropped["examples"] += 1
            continue
        name = example.item.item_id
        groups.append(TokenGroup(item_id=name, prompt=prompt, responses=(chosen, *kept)))
    return Fitting(groups, {what: count for what, count in dropped.items() if count})


@dataclass(frozen=True, slots=True)
class Layout:
    """Where in a row its parts are; travels through the model to the attention."""

    prompt: int
    """Tokens of segment 0."""
    responses: tuple[int, ...]
    """Tokens of segments 1, 2, ..."""

    @classmethod
    def of(cls, group: TokenGroup) -> "Layout":
        """Return the layout of a packed group."""
        return cls(len(group.prompt) - 1, tuple(map(len, group.responses)))


def packed(groups: Sequence[TokenGroup], *, filler: int = 0) -> dict[str, Tensor]:
    """Return groups as rows of one batch, each packed as the module says.

    Returns:
        `input_ids`, `position_ids`, `targets` and `segments`, all (groups, tokens).
    """
    width = max(group.tokens for group in groups)
    shape = (len(groups), width)
    ids, positions = torch.full(shape, filler), torch.zeros(shape, dtype=torch.long)
    targets, segments = torch.full(shape, IGNORED), torch.full(shape, PADDING)
    for row, group in enumerate(groups):
        *head, last = group.prompt
        at = len(head)
        ids[row, :at] = torch.tensor(head, dtype=torch.long)
        positions[row, :at] = torch.arange(at)
        segments[row, :at] = 0
        for number, response in enumerate(group.responses, start=1):
            end = at + len(response)
            ids[row, at:end] = torch.tensor([last, *response[:-1]])
            positions[row, at:end] = torch.arange(len(head), len(head) + len(response))
            targets[row, at:end] = torch.tensor(response)
            segments[row, at:end] = number
            at = end
    return {"input_ids": ids, "position_ids": positions, "targets": targets, "segments": segments}


def unpacked(groups: Sequence[TokenGroup], *, filler: int = 0) -> dict[str, Tensor]:
    """Return groups with every response in a row of its own, for models that cannot be packed.

    Returns:
        `input_ids` and `targets`, (responses of all groups, tokens).
    """
    pairs = [(group.prompt, response) for group in groups for response in group.responses]
    return padded(pairs, filler=filler)


def visible(segments: Tensor) -> Tensor:
    """Return which token sees which: (rows, 1, tokens, tokens), True where it does.

    Args:
        segments: (rows, tokens) as `packed` returns them.
    """
    seen = segments[:, None, :]
    own = (seen == 0) | (seen == segments[:, :, None])
    return torch.tril(own)[:, None]


def response_sums(logprobs: Tensor, segments: Tensor, count: int) -> Tensor:
    """Return the (rows, count) log-probability of each response of packed rows, in nats.

    Args:
        logprobs: (rows, tokens) per token, 0 where the token is of no response.
        segments: (rows, tokens) as `packed` returns them.
        count: responses of the row that has the most; rows with fewer end in zeros.
    """
    sums = logprobs.new_zeros(len(logprobs), count + 1)
    return sums.scatter_add(1, segments.clamp(min=0), logprobs)[:, 1:]


def block_mask(segments: Tensor) -> Any:
    """Return what `visible` does as FlexAttention's BlockMask, without making it dense."""
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own = (segments[row, key] == 0) | (segments[row, key] == segments[row, query])
        return own & (query >= key)

    rows, tokens = segments.shape
    return create_block_mask(
        sees, B=rows, H=None, Q_LEN=tokens, KV_LEN=tokens, device=str(segments.device)
    )
