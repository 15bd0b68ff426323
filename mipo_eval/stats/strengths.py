"""Bradley-Terry strengths from games between runs, with clustered errors.

The chance that i beats j is sigma(s_i - s_j) with strengths in log-odds; a tie is half a win for
both, as in FastChat, arena-rank and Arena-Hard. Errors are sandwich errors over clusters: outcomes
of a prompt, or of a user, may depend on each other in any way, and the model need not be true.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mipo_eval.errors import DataError
from mipo_eval.stats.bootstrap import Dependence, Floats, Interval
from mipo_eval.stats.estimates import covariance, t_quantile

ELO = 400 / math.log(10)
"""Elo points per unit of log-odds."""

_STEPS = 100
_CLOSE = 1e-10


class Game(NamedTuple):
    """One comparison of two runs on one item."""

    first: str
    second: str
    credit: float
    """Of the first: 1 for a win, 1/2 for a tie, 0 for a loss."""
    group: Hashable | None = None
    """Prompt group of the item, or `Crossed(prompt, user)`: what the errors are clustered by; None:
    the game stands alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strength:
    """One run's Bradley-Terry strength; 0 is the average of all runs."""

    name: str
    strength: float
    """Log-odds of beating the average run."""
    error: float
    """Standard error, clustered."""
    ci95: Interval
    games: int

    @property
    def elo(self) -> float:
        """The strength on the Elo scale around 1000."""
        return 1000 + ELO * self.strength

    @property
    def elo_ci95(self) -> Interval:
        """The interval on the Elo scale."""
        return 1000 + ELO * self.ci95[0], 1000 + ELO * self.ci95[1]


def bradley_terry(games: Sequence[Game]) -> list[Strength]:
    """Fit Bradley-Terry strengths to games between runs, strongest first.

    Raises:
        DataError: fewer than two runs or groups, or no finite solution exists (named runs never
            lose to the others, or never meet them).
    """
    names = list(dict.fromkeys(name for game in games for name in game[:2]))
    if len(names) < 2:
        raise DataError(f"Bradley-Terry needs two runs or more; {len(names)} have games")
    runs, place = len(names), {name: index for index, name in enumerate(names)}
    first = np.array([place[game.first] for game in games], dtype=np.intp)
    second = np.array([place[game.second] for game in games], dtype=np.intp)
    won = np.array([game.credit for game in games], dtype=np.float64)
    credit, played = np.zeros((runs, runs)), np.zeros((runs, runs))
    for own, other, points in ((first, second, won), (second, first, 1 - won)):
        np.add.at(credit, (own, other), points)
        np.add.at(played, (own, other), 1.0)
    _check_connected(credit, names)
    kinds = Dependence.of([game.group for game in games], len(games)).kinds()
    n = min(int(ids.max()) + 1 for ids in kinds)
    if n < 2:
        raise DataError("Bradley-Terry needs outcomes of two groups or more for its errors")
    fitted = _solve(credit, played)
    # Each game's part of the gradient; the parts sum to 0 at the maximum.
    residuals, row = won - _chances(fitted)[first, second], np.arange(len(games))
    scores = np.zeros((len(games), runs))
    scores[row, first], scores[row, second] = residuals, -residuals
    # Outcomes say nothing about "all runs equally stronger": this direction gets a curvature of
    # its own so that the information can be inverted, and is taken out again.
    flat = np.full((runs, runs), 1 / runs)
    bread = np.linalg.inv(_information(fitted, played) + flat) - flat
    found = bread @ covariance(scores, kinds) @ bread
    center = np.eye(runs) - 1 / runs
    strengths = center @ fitted
    # Where the clusters agree to the last bit rounding can leave a variance just below 0.
    errors = np.sqrt(np.maximum(np.diag(center @ found @ center), 0.0))
    reach = float(t_quantile(n - 1)) * errors
    return [
        Strength(
            name=names[i],
            strength=float(strengths[i]),
            error=float(errors[i]),
            ci95=(float(strengths[i] - reach[i]), float(strengths[i] + reach[i])),
            games=int(played[i].sum()),
        )
        for i in np.argsort(-strengths, kind="stable")
    ]


def _check_connected(credit: Floats, names: Sequence[str]) -> None:
    """Refuse outcomes without a finite maximum: a set of runs that never loses to the others."""
    from scipy.sparse.csgraph import connected_components

    parts, part = connected_components(credit > 0, directed=True, connection="strong")
    if parts > 1:
        sets = [
            ", ".join(name for name, own in zip(names, part, strict=True) if own == p)
            for p in range(parts)
        ]
        raise DataError(
            "Bradley-Terry has no finite solution: between these sets of runs all outcomes go "
            f"one way or there are none: {' / '.join(sets)}; compare them by win rates"
        )


def _chances(strengths: Floats) -> Floats:
    """Return (runs, runs) expected credit of the row's run against the column's."""
    from scipy.special import expit

    return np.asarray(expit(strengths[:, None] - strengths[None, :]))


def _information(strengths: Floats, played: Floats) -> Floats:
    """Return the expected information: credit of 1 or 0 has the variance p (1 - p)."""
    chance = _chances(strengths)
    spread = played * chance * (1 - chance)
    return np.diag(spread.sum(axis=1)) - spread


def _solve(credit: Floats, played: Floats) -> Floats:
    """Return (runs,) maximum-likelihood strengths by Newton's method."""
    runs = len(credit)
    fitted = np.zeros(runs)
    for _ in range(_STEPS):
        gradient = (credit - played * _chances(fitted)).sum(axis=1)
        step = np.linalg.solve(_information(fitted, played) + 1 / runs, gradient)
        # A full Newton step can overshoot from far away.
        step *= min(1.0, 2.0 / max(np.abs(step).max(), 1e-300))
        fitted += step
        if np.abs(step).max() < _CLOSE:
            break
    return fitted
