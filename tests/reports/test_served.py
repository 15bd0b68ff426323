"""Who is served well and who badly: users, preferences, lengths."""

import numpy as np
import pytest

from mipo_eval.reports.served import by_length, by_user, parts
from mipo_eval.stats.bootstrap import Crossed


def _groups(users: list[str | None]) -> list[Crossed]:
    return [Crossed(f"prompt-{n}", user) for n, user in enumerate(users)]


def test_users_come_worst_first_with_their_tenth() -> None:
    users = [f"u{n // 4}" for n in range(80)]
    values = np.array([float(n // 4) for n in range(80)])
    found = by_user(values, _groups(users))
    assert found is not None
    assert found.users[:3] == ("u0", "u1", "u2")
    assert found.items.tolist() == [4] * 20
    assert found.worst_tenth == pytest.approx(0.5)  # of u0 and u1
    assert found.by_chance > 3
    assert found.p_alike < 0.01
    lower = by_user(values, _groups(users), lower=True)
    assert lower is not None
    assert lower.users[0] == "u19"
    assert lower.worst_tenth == pytest.approx(18.5)


def test_users_who_are_served_alike_differ_by_chance_only() -> None:
    rng = np.random.default_rng(1)
    users = [f"u{n % 20}" for n in range(200)]
    found = [by_user(rng.integers(0, 2, 200) * 100.0, _groups(users)) for _ in range(20)]
    p_values = [one.p_alike for one in found if one]
    assert len(p_values) == 20
    assert sum(p < 0.05 for p in p_values) <= 4
    assert found[0] is not None
    assert found[0].worst_tenth < 50  # somebody is always unlucky


def test_absent_values_and_items_without_a_user_are_left_out() -> None:
    found = by_user(np.array([1.0, np.nan, 3.0, 5.0]), _groups(["a", "a", "b", None]))
    assert found is not None
    assert dict(zip(found.users, found.means.tolist(), strict=True)) == {"a": 1.0, "b": 3.0}
    assert by_user(np.array([1.0, 2.0]), _groups(["a", "a"])) is None
    assert by_user(np.array([1.0, 2.0]), ["x", "y"]) is None


def test_parts_are_differences_of_their_own_lines() -> None:
    values = np.array([[5.0, 1.0], [5.0, 1.0], [2.0, 2.0], [np.nan, 3.0]])
    found = parts(["short", "short", "warm", "warm"], values, _groups([None] * 4), (1, 5))
    assert [(one.name, one.found.difference, one.found.n) for one in found] == [
        ("short", 4.0, 2),
        ("warm", 0.0, 1),
    ]


def test_lengths_are_alike_within_a_tenth() -> None:
    lengths = np.array([[100.0, 50.0], [100.0, 95.0], [40.0, 90.0], [np.nan, 1.0]])
    values = np.array([[1.0, 0.0]] * 4)
    found = by_length(values, lengths, _groups([None] * 4), None)
    assert [(one.name, one.found.n) for one in found] == [
        ("longer", 1),
        ("about as long", 1),
        ("shorter", 1),
    ]
