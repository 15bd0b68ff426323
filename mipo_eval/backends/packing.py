"""Next-token logits of many token sequences at once, reading what they share only once.

Requests to a judge have long common beginnings: the instructions are everybody's, and all requests
about one response share that response too. Sorted, the sequences form a tree; its tokens are laid
out in one row, and each attends to its ancestors only and has its depth as position. To the model
every branch is then the sequence it stands for, without padding, and no token is computed twice:

    1 2 3 4      row        1 2 3 4 5 6
    1 2 5 6      positions  0 1 2 3 2 3      6 sees 1, 2, 5 and itself
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_PROBES = ([1, 2, 3, 4, 5], [1, 2, 3, 5, 4], [1, 2, 4])


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

    sequences = [list(probe) for probe in _PROBES]
    try:
        packed = packed_logits(model, sequences, room=100)
    except (TypeError, ValueError, RuntimeError, IndexError):
        return False  # it does not take such a mask
    return all(
        torch.allclose(a.float(), b.float(), rtol=0.02, atol=0.02 * float(b.float().abs().max()))
        for a, b in zip(packed, single_logits(model, sequences), strict=True)
    )
