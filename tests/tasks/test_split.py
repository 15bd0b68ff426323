"""The split: no user and no prompt in both parts, seeded, with a reserve; near-duplicates."""

import random
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipo_eval.errors import DataError
from mipo_eval.tasks.split import near_duplicates, split_pools
from tests.laws import tries


def entries(count: int, users: int) -> tuple[list[str], list[str]]:
    return [f"u{n % users}" for n in range(count)], [f"prompt {n}" for n in range(count)]


@pytest.mark.parametrize(
    ("count", "users", "n_train", "n_test"), [(200, 40, 100, 20), (60, 20, 40, 10)]
)
def test_no_user_in_both(count: int, users: int, n_train: int, n_test: int) -> None:
    owners, prompts = entries(count, users)
    pools = split_pools(owners, prompts, n_train=n_train, n_test=n_test, seed=0)
    assert not {owners[i] for i in pools.train} & {owners[i] for i in pools.test}
    assert len(pools.train) >= n_train
    assert len(pools.test) >= n_test
    assert sorted([*pools.train, *pools.test]) == list(range(count))


def test_the_seed_decides() -> None:
    owners, prompts = entries(200, 40)
    first = split_pools(owners, prompts, n_train=100, n_test=20, seed=0)
    assert first == split_pools(owners, prompts, n_train=100, n_test=20, seed=0)
    assert first != split_pools(owners, prompts, n_train=100, n_test=20, seed=1)


def test_prompts_of_the_test_part_are_not_trained_on() -> None:
    """The same pregenerated prompt was shown to many annotators."""
    owners = [f"u{n}" for n in range(100)]
    prompts = [f"Prompt {n % 50}!" if n < 50 else f"prompt  {n % 50}" for n in range(100)]
    pools = split_pools(owners, prompts, n_train=60, n_test=10, seed=0)
    asked = {prompts[i].lower().replace("!", "").split()[1] for i in pools.test}
    assert not asked & {prompts[i].lower().replace("!", "").split()[1] for i in pools.train}
    assert pools.shared_prompts == 100 - len(pools.train) - len(pools.test) > 0


def test_too_few_rows() -> None:
    owners, prompts = entries(10, 5)
    with pytest.raises(DataError, match="10 usable rows for 8 training and 3 test items"):
        split_pools(owners, prompts, n_train=8, n_test=3, seed=0)


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ("What is the best way to bake bread?", "what is the best way to bake bread", True),
        ("a b c d e f g h i j", "a b c d e f g h i k", True),  # 9 of 11 words
        ("a b c d e", "a b c d f", False),  # 4 of 6 words
        ("bread", "cake", False),
    ],
)
def test_near_duplicates(first: str, second: str, *, found: bool) -> None:
    assert bool(near_duplicates([first], [second])) is found


words = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8).map(" ".join)


@tries(60)
@given(st.lists(words, max_size=12), st.lists(words, max_size=12))
def test_near_duplicates_are_those_of_all_pairs(first: list[str], second: list[str]) -> None:
    def similar(one: str, other: str) -> bool:
        a, b = set(one.split()), set(other.split())
        return 10 * len(a & b) >= 8 * len(a | b)

    expected = [(a, b) for b, a in product(second, first) if similar(a, b)]
    assert near_duplicates(first, second) == expected


def test_near_duplicates_are_found_fast() -> None:
    """6,500 against 200 prompts: too many pairs to compare one by one in a moment."""
    rng = random.Random(0)
    vocabulary = [f"w{n}" for n in range(5_000)]
    texts = [" ".join(rng.choices(vocabulary, k=15)) for _ in range(6_700)]
    assert near_duplicates(texts[:6_500], [*texts[6_500:], texts[3]]) == [(texts[3], texts[3])]
