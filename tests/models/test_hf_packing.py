"""Reading shared beginnings once gives the logits of reading each sequence alone."""

import random
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.models.hf import can_pack, packed_logits, packs, shared_length, single_logits

COMMON = list(range(100, 130))


def test_a_pack_by_hand() -> None:
    [pack] = packs([[1, 2, 5, 6], [1, 2, 3, 4], [1, 2]], room=100)
    assert pack.tokens == [1, 2, 3, 4, 5, 6]
    assert pack.positions == [0, 1, 2, 3, 2, 3]
    assert pack.parents == [-1, 0, 1, 2, 1, 4]
    assert pack.ends == {2: 1, 1: 3, 0: 5}


def test_no_token_is_read_twice_while_there_is_room() -> None:
    sequences = [[*COMMON, group, *range(40), own] for group in range(3) for own in range(4)]
    [pack] = packs(sequences, room=10_000)
    assert len(pack.tokens) == 30 + 3 * 41 + 12
    tight = list(packs(sequences, room=80))
    assert len(tight) == 3
    assert sorted(index for pack in tight for index in pack.ends) == list(range(12))
    assert max(len(pack.tokens) for pack in tight) <= 80


def test_equal_sequences_and_one_that_begins_another() -> None:
    [pack] = packs([[7, 8], [7, 8], [7]], room=10)
    assert (pack.tokens, pack.ends) == ([7, 8], {2: 0, 0: 1, 1: 1})


def test_a_sequence_longer_than_the_room_goes_alone() -> None:
    lengths = [len(pack.tokens) for pack in packs([[1], [2] * 50, [3]], room=10)]
    assert lengths == [1, 50, 1]
    assert list(packs([], room=10)) == []


@pytest.mark.parametrize(
    ("first", "second", "length"), [([], [1], 0), ([1, 2], [1, 3], 1), ([1, 2], [1, 2, 3], 2)]
)
def test_shared_length(first: list[int], second: list[int], length: int) -> None:
    assert shared_length(first, second) == shared_length(second, first) == length


def load(folder: Path, **options: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).eval()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("room", [20, 200, 100_000])
@pytest.mark.parametrize("seed", range(3))
def test_logits_are_those_of_each_sequence_alone(
    tiny_model: Path, seed: int, room: int, attention: str
) -> None:
    import torch

    model = load(tiny_model, attn_implementation=attention)
    rng = random.Random(seed)

    def draw(number: int) -> list[int]:
        return [rng.randrange(300) for _ in range(number)]

    common = draw(rng.choice([0, 1, 25]))
    middles = [draw(rng.randint(10, 60)) for _ in range(6)]
    sequences = [common + rng.choice(middles) + draw(rng.randint(1, 30)) for _ in range(25)]
    sequences += [list(sequences[0]), sequences[1][:5]]
    with torch.inference_mode():
        found = packed_logits(model, sequences, room=room)
        alone = single_logits(model, sequences)
    for one, other in zip(found, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_pretrained_model_can_pack(shared_data: Path) -> None:
    import torch

    with torch.inference_mode():
        assert can_pack(load(shared_data / "stories260k" / "hf"))


def test_a_model_with_positions_of_its_own_is_found_out() -> None:
    """Bloom takes its positions from the mask, and Mamba has none: neither reads a tree right."""
    import torch
    from transformers import BloomConfig, BloomForCausalLM, MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    size = {"vocab_size": 50, "hidden_size": 32, "initializer_range": 0.5}
    bloom = BloomForCausalLM(BloomConfig(n_layer=2, n_head=2, **size))
    mamba = MambaForCausalLM(MambaConfig(num_hidden_layers=2, state_size=4, **size))
    with torch.inference_mode():
        assert not can_pack(bloom.eval())
        assert not can_pack(mamba.eval())
