"""Train and test parts that share no user and no prompt."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mipo_eval.errors import DataError
from mipo_eval.keys import digest
from mipo_eval.records import Item

RESERVE = 1.25
"""Test candidates set aside per item wanted: some will be dropped by the extractor."""


class Pools(NamedTuple):
    """Candidates of each part, in the seeded order in which they are to be used."""

    train: list[int]
    test: list[int]
    shared_prompts: int
    """Training candidates left out because their prompt is among the test candidates."""


def split_pools(
    owners: Sequence[str], prompts: Sequence[str], *, n_train: int, n_test: int, seed: int
) -> Pools:
    """Divide entries into candidates for the two parts, whole owners at a time.

    Owners go to the test part in an order drawn by `seed` until it holds `RESERVE` times `n_test`
    entries; all others are for training, save those that ask a prompt of the test part.

    `owners` are per entry who must not be in both parts: a user, or an instruction; `prompts` what
    it asks. The order depends on the owners' names only. What comes back are positions in `owners`.

    Raises:
        DataError: there are fewer entries than wanted.
    """
    entries: defaultdict[str, list[int]] = defaultdict(list)
    for index, owner in enumerate(owners):
        entries[owner].append(index)
    order = sorted(entries, key=lambda owner: digest([seed, "split", owner]))
    if len(owners) < n_train + n_test:
        raise DataError(
            f"{len(owners)} usable rows for {n_train} training and {n_test} test items: give more "
            "rows, or ask for fewer (--train N, --test N)"
        )
    # With few rows to spare the reserve shrinks, so that training still has enough candidates.
    spare = len(owners) - n_train - n_test
    goal = n_test + min(spare // 2, round(n_test * (RESERVE - 1)))
    test: list[int] = []
    while order and len(test) < goal:
        test += entries[order.pop(0)]
    tested = {_normal(prompts[index]) for index in test}
    rest = [index for owner in order for index in entries[owner]]
    train = [index for index in rest if _normal(prompts[index]) not in tested]
    shuffled = [
        sorted(part, key=lambda i: digest([seed, "order", owners[i], prompts[i], i]))
        for part in (train, test)
    ]
    return Pools(shuffled[0], shuffled[1], shared_prompts=len(rest) - len(train))


def refuse_overlap(parts: Mapping[str, Iterable[Item]]) -> None:
    """Raise DataError where two parts, by what they are called, share a user or a prompt."""
    owners: dict[tuple[str, str], str] = {}
    for part, items in parts.items():
        for item in items:
            kinds = {"prompt": _normal(item.transcript)}
            if item.user_id is not None:
                kinds["user"] = item.user_id
            for kind, value in kinds.items():
                other = owners.setdefault((kind, value), part)
                if other != part:
                    shown = item.user_id if kind == "user" else item.prompt[:60]
                    raise DataError(
                        f"{kind} {shown!r} is in {other} and in {part} (item {item.item_id}), but "
                        f"a model must not be tested on what it was trained on: remove the {kind} "
                        "from one of them, or prepare both again"
                    )


def near_duplicates(
    first: Sequence[str], second: Sequence[str], *, threshold: float = 0.8
) -> list[tuple[str, str]]:
    """Return pairs of texts, one of each part, whose word sets are at least this similar (Jaccard).

    Only texts that share one of their rarest words are compared: a pair as similar as that must.
    """
    words = [frozenset(_normal(text).split()) for text in (*first, *second)]
    frequency: defaultdict[str, int] = defaultdict(int)
    for entry in words:
        for word in entry:
            frequency[word] += 1

    def prefix(entry: frozenset[str]) -> list[str]:
        # Prefix filter: with Jaccard >= t, one of the (1 - t) * size + 1 rarest words is shared.
        ranked = sorted(entry, key=lambda word: (frequency[word], word))
        return ranked[: int((1 - threshold) * len(ranked) + 1e-9) + 1]

    index: defaultdict[str, list[int]] = defaultdict(list)
    for position, entry in enumerate(words[: len(first)]):
        for word in prefix(entry):
            index[word].append(position)
    found = []
    for text, entry in zip(second, words[len(first) :], strict=True):
        for position in sorted({place for word in prefix(entry) for place in index[word]}):
            other = words[position]
            if len(entry & other) >= threshold * len(entry | other) - 1e-9:
                found.append((first[position], text))
    return found


def _normal(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())
