"""All methods of a suite head to head: Bradley-Terry strengths of what judges and people said."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from mipo_eval.errors import DataError
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.records import Run
from mipo_eval.reports.leaderboard import LeaderboardQuery
from mipo_eval.reports.names import row_name, trained_rules
from mipo_eval.stats.bootstrap import Crossed
from mipo_eval.stats.strengths import Game, Strength, bradley_terry
from mipo_eval.store.judges import StoredJudge, find_judge
from mipo_eval.store.responses import paired_texts
from mipo_eval.store.runs import list_runs
from mipo_eval.store.verdicts import pair_verdicts
from mipo_eval.verdict import CREDIT


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteStrengths:
    """The methods of one suite, as one judge or person sees them against each other."""

    suite: str
    judge: str
    games: int
    reason: str | None
    """Why there are no strengths."""
    strengths: tuple[Strength, ...]
    """Bradley-Terry, strongest first; empty where there are none."""


def suite_strengths(now: Snapshot, asked: LeaderboardQuery) -> list[SuiteStrengths]:
    """Return the strengths of every suite's methods, for every judge with verdicts between them.

    Args:
        now: the store's state.
        asked: which suite and judge, and what runs are called; seeds of a method play for it.

    Raises:
        ConfigError: no such judge.
    """
    judges = [find_judge(now.store, asked.judge)] if asked.judge else now.judges
    rules = (*asked.rules, *trained_rules(now.trainings))
    suites: dict[str, list[tuple[str, Run]]] = {}
    for run in list_runs(now.store):
        if asked.suite in {None, run.suite}:
            name = row_name(run, rules)[0]
            label = f"{name.model} {name.whole_method}"
            suites.setdefault(run.suite, []).append((label, run))
    found = []
    for suite, named in suites.items():
        games = _games(now, named, judges)
        for judge in (judge for judge in judges if games[judge.key]):
            strengths: tuple[Strength, ...] = ()
            reason = None
            try:
                strengths = tuple(bradley_terry(games[judge.key]))
            except DataError as error:
                reason = str(error)
            found.append(
                SuiteStrengths(
                    suite=suite,
                    judge=judge.label,
                    games=len(games[judge.key]),
                    reason=reason,
                    strengths=strengths,
                )
            )
    return found


def _games(
    now: Snapshot, named: Sequence[tuple[str, Run]], judges: Sequence[StoredJudge]
) -> dict[str, list[Game]]:
    """Return by judge what every two runs of different methods come to, item by item."""
    games: dict[str, list[Game]] = {judge.key: [] for judge in judges}
    for (first, run), (second, other) in combinations(named, 2):
        if first == second:
            continue
        pairs = {
            row.pair: Crossed(row.group, row.user_id)
            for row in paired_texts(now.store, run, other)
            if row.pair
        }
        for key, own in games.items():
            said = pair_verdicts(now.store, key, list(pairs))
            if not any(one.winner and not one.identical for one in said):
                continue  # equal responses are ties to everybody, judged or not
            own += [
                Game(first, second, CREDIT[one.winner], group)
                for one, group in zip(said, pairs.values(), strict=True)
                if one.winner is not None
            ]
    return games


def strengths_json(found: SuiteStrengths) -> dict[str, Any]:
    """Return a suite's strengths as `--json` shows them."""
    return {
        "suite": found.suite,
        "judge": found.judge,
        "games": found.games,
        "reason": found.reason,
        "methods": [
            {
                "name": one.name,
                "elo": one.elo,
                "elo_ci95": one.elo_ci95,
                "log_odds": one.strength,
                "error": one.error,
                "games": one.games,
            }
            for one in found.strengths
        ],
    }
