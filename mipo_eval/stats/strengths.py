"""Bradley-Terry strengths from paired outcomes, ties included, with clustered errors.

The chance that i beats j is sigma(s_i - s_j) with strengths in log-odds. Two ways with ties:

- "half": a tie is half a win for both. What FastChat, arena-rank and Arena-Hard fit.
- "davidson": ties have a probability of their own, P(tie) proportional to
  nu * exp((s_i + s_j) / 2) (Davidson 1970); nu is estimated too.

Errors are sandwich errors over clusters: outcomes of a prompt may depend on each other in any way,
and the model need not be true.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from mipo_eval.errors import DataError
from mipo_eval.stats.bootstrap import Floats, Interval, Labels, cluster_ids

TieModel = Literal["half", "davidson"]

ELO = 400 / math.log(10)
"""Elo points per unit of log-odds."""

_STEPS = 100
_CLOSE = 1e-10


@dataclass(frozen=True, slots=True, kw_only=True)
class Strength:
    """One run's Bradley-Terry strength; 0 is the average of all runs."""

    name: str
    strength: float
    """Log-odds of beating the average run."""
    error: float
    """Standard error, clustered."""
    ci95: Interval

    @property
    def elo(self) -> float:
        """The strength on the Elo scale around 1000."""
        return 1000 + ELO * self.strength


def _outcomes(table: Floats, run: int) -> tuple[Floats, Floats]:
    """Return (items, runs) wins and ties of one run against all; 0 where an item is not common."""
    own = table[:, [run]]
    tied = (own == table).astype(np.float64)
    tied[:, run] = 0
    return (own > table).astype(np.float64), tied


def _check_connected(wins: Floats, ties: Floats, names: Sequence[str]) -> None:
    """Refuse outcomes without a finite maximum: a set of runs that never loses to the others."""
    from scipy.sparse.csgraph import connected_components

    parts, part = connected_components(wins + ties > 0, directed=True, connection="strong")
    if parts > 1:
        sets = [
            ", ".join(name for name, own in zip(names, part, strict=True) if own == p)
            for p in range(parts)
        ]
        raise DataError(
            "Bradley-Terry has no finite solution: between these sets of runs all outcomes go "
            f"one way or there are none: {' / '.join(sets)}; use the win-rate matrix"
        )


@dataclass(frozen=True, slots=True)
class _Fit:
    """A Bradley-Terry model; a game's credit is 1 for a win, 1/2 for a tie."""

    strengths: Floats
    tie_weight: float
    """nu; 0 where ties are half wins."""

    def chances(self) -> tuple[Floats, Floats]:
        """Return (runs, runs) expected credit of the row's run, and chance of a tie."""
        gap = (self.strengths[:, None] - self.strengths[None, :]) / 2
        win, lose = np.exp(gap), np.exp(-gap)
        total = win + lose + self.tie_weight
        tie = self.tie_weight / total
        return win / total + tie / 2, tie

    def information(self, games: Floats) -> Floats:
        """Return the expected information of strengths (and log nu, unless nu is 0)."""
        credit, tie = self.chances()
        # The variance of a credit of 1, 1/2 or 0.
        spread = games * (credit - tie / 4 - credit**2)
        strengths = np.diag(spread.sum(axis=1)) - spread
        if self.tie_weight == 0:
            return strengths
        cross = (games * tie * (0.5 - credit)).sum(axis=1)[:, None]
        own = np.array([[(games * tie * (1 - tie)).sum() / 2]])
        return np.block([[strengths, cross], [cross.T, own]])

    def scores(self, credit: Floats, tied: Floats, games: Floats) -> Floats:
        """Return the gradient of the likelihood of outcome totals, (runs, runs) each."""
        expected, tie = self.chances()
        gradient = (credit - games * expected).sum(axis=1)
        if self.tie_weight == 0:
            return np.asarray(gradient)
        return np.append(gradient, (tied - games * tie).sum() / 2)


def _solve(credit: Floats, tied: Floats, games: Floats, *, nu: float) -> _Fit:
    """Return the maximum-likelihood fit by Newton's method; `nu` 0 stays 0."""
    runs = len(credit)
    fit = _Fit(np.zeros(runs), nu)
    for _ in range(_STEPS):
        information = fit.information(games)
        step = np.linalg.solve(
            information + _flat(len(information), runs), fit.scores(credit, tied, games)
        )
        # A full Newton step can overshoot from far away.
        step *= min(1.0, 2.0 / max(np.abs(step).max(), 1e-300))
        weight = fit.tie_weight * float(np.exp(step[-1])) if nu else 0.0
        fit = _Fit(fit.strengths + step[:runs], weight)
        if np.abs(step).max() < _CLOSE:
            break
    return fit


def _flat(size: int, runs: int) -> Floats:
    """Return the projection on "all runs equally stronger", which outcomes say nothing about."""
    flat = np.zeros((size, size))
    flat[:runs, :runs] = 1 / runs
    return flat


def _cluster_scores(table: Floats, groups: Labels, fit: _Fit) -> Floats:
    """Return (clusters, parameters): each cluster's part of the gradient; sums to 0."""
    ids, n_clusters = cluster_ids(groups, len(table))
    expected, tie = fit.chances()
    present = (~np.isnan(table)).astype(np.float64)
    columns, ties = [], np.zeros(len(table))
    for run in range(table.shape[1]):
        won, tied = _outcomes(table, run)
        games = present[:, [run]] * present
        games[:, run] = 0
        columns.append((won + tied / 2 - games * expected[run]).sum(axis=1))
        ties += (tied - games * tie[run]).sum(axis=1) / 2
    if fit.tie_weight:
        columns.append(ties)
    scores = np.zeros((n_clusters, len(columns)))
    np.add.at(scores, ids, np.stack(columns, axis=1))
    return scores


def bradley_terry(
    table: ArrayLike, names: Sequence[str], groups: Labels = None, *, ties: TieModel = "half"
) -> list[Strength]:
    """Fit Bradley-Terry strengths to all pairwise outcomes of a table, strongest first.

    Args:
        table: (items, runs) values, higher wins, equal ties; NaN marks an absent value.
        names: one per run.
        groups: prompt group (or user) per item, the unit of the errors.
        ties: how ties are modelled.

    Raises:
        DataError: fewer than two runs or groups, or no finite solution exists (named runs never
            lose to the others, or never meet them).
    """
    values = np.asarray(table, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(names) or len(names) < 2:
        raise DataError(f"Bradley-Terry needs two runs or more; {len(names)} are named")
    totals = [[side.sum(axis=0) for side in _outcomes(values, run)] for run in range(len(names))]
    wins, tied = np.swapaxes(np.array(totals), 0, 1)
    _check_connected(wins, tied, names)
    # Without a tie nu is 0 and both models are the same; with nothing else nu has no bound.
    nu = 1.0 if ties == "davidson" and tied.any() and wins.any() else 0.0
    games = wins + wins.T + tied
    fit = _solve(wins + tied / 2, tied, games, nu=nu)
    scores = _cluster_scores(values, groups, fit)
    n = len(scores)
    if n < 2:
        raise DataError("Bradley-Terry needs outcomes of two groups or more for its errors")
    information = fit.information(games)
    flat = _flat(len(information), len(names))
    bread = np.linalg.inv(information + flat) - flat
    covariance = bread @ (scores.T @ scores * (n / (n - 1))) @ bread
    runs = len(names)
    center = np.eye(runs) - 1 / runs
    strengths = center @ fit.strengths
    errors = np.sqrt(np.diag(center @ covariance[:runs, :runs] @ center))
    from scipy.special import stdtrit

    reach = float(stdtrit(n - 1, 0.975))
    return [
        Strength(
            name=names[i],
            strength=float(strengths[i]),
            error=float(errors[i]),
            ci95=(
                float(strengths[i] - reach * errors[i]),
                float(strengths[i] + reach * errors[i]),
            ),
        )
        for i in np.argsort(-strengths, kind="stable")
    ]
