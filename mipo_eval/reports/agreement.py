"""Judge against judge on the same responses: who agrees with whom, and who favours its own family.

Whether a judge rated or chose, or a person labelled, is all one: the store reads verdicts alike.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any, NamedTuple

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.evaluation.outcomes import Outcomes
from mipo_eval.judges.panel import FamilyRatings, family_preference
from mipo_eval.judges.presets import family_of
from mipo_eval.metrics.agreement import Agreement, Reliability, agreement, reliability
from mipo_eval.records import Run, Score
from mipo_eval.reports.names import row_name, stored_rules
from mipo_eval.signature import join, short
from mipo_eval.stats.bootstrap import Crossed
from mipo_eval.store.engine import Store
from mipo_eval.store.judges import (
    StoredJudge,
    failing_judges,
    find_judge,
    largest_validations,
    list_judges,
)
from mipo_eval.store.responses import PairedTexts, paired_texts
from mipo_eval.store.verdicts import Counted, count_verdicts, judges_on, run_ratings, verdicts_on
from mipo_eval.verdict import CREDIT, chooses


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgesAgreement:
    """How far two judges agree about the same responses."""

    first: StoredJudge
    second: StoredJudge
    ratings: Agreement
    """Of single ratings, response by response and preference by preference."""
    verdicts: Agreement
    """Of win, tie or loss against the references."""
    order: float | None
    """Kendall's tau-b of how they order the runs by mean rating, -1 to 1; None below three runs."""


class Agreements(NamedTuple):
    """How far judges agree, two by two and all together."""

    pairs: Sequence[JudgesAgreement]
    ratings: Reliability
    """Of single ratings, among all judges that gave one."""
    verdicts: Reliability


def agreements(store: Store, runs: Sequence[Run], judges: Sequence[StoredJudge]) -> Agreements:
    """Return the agreement of judges on the responses of runs that several judged.

    Args:
        store: where verdicts are.
        runs: whose responses.
        judges: two or more; people are judges too.

    Raises:
        ConfigError: fewer than two judges.
        DataError: no two of the judges judged a response in common.
    """
    if len(judges) < 2:
        raise ConfigError("agreement needs two judges: judge the same runs with a second judge")
    known = {judge.key: judge for judge in judges}
    ratings: dict[str, dict[Any, int]] = {key: {} for key in known}
    rows: dict[str, list[PairedTexts]] = {}
    groups: dict[str, Crossed] = {}
    means: dict[str, list[float | None]] = {key: [] for key in known}
    for run in runs:
        of_list = rows.setdefault(run.list_key, [])
        paired = paired_texts(store, run)
        groups |= {row.item_key: Crossed(row.group, row.user_id) for row in paired}
        of_list += [row for row in paired if row.first != row.second]
        for key, own in run_ratings(store, run, list(known)).items():
            ratings[key].update(own)
            means[key].append(sum(own.values()) / len(own) if own else None)
    said: dict[str, dict[Any, float]] = {key: {} for key in known}
    for list_key, of_list in rows.items():
        for key in known.keys() & judges_on(store, list_key):
            verdicts = verdicts_on(store, of_list, key)
            told = {row.pair: CREDIT[one.winner] for row, one in verdicts if one.winner}
            said[key].update(told)
    found = [
        JudgesAgreement(
            first=a,
            second=b,
            ratings=_agreement(ratings[a.key], ratings[b.key], groups),
            verdicts=_agreement(said[a.key], said[b.key], groups),
            order=_tau(means[a.key], means[b.key]),
        )
        for a, b in combinations(known.values(), 2)
    ]
    if not any(one.ratings.n or one.verdicts.n for one in found):
        raise DataError("no two of these judges judged the same response")
    return Agreements(found, *(_reliability([*of.values()], groups) for of in (ratings, said)))


def _agreement(
    first: Mapping[Any, float], second: Mapping[Any, float], groups: Mapping[str, Crossed]
) -> Agreement:
    """Return the agreement on the units, which begin with an item's key, that both judged."""
    both = [unit for unit in first if unit in second]
    own = [groups[unit[0]] for unit in both]
    return agreement([first[unit] for unit in both], [second[unit] for unit in both], own)


def _reliability(
    judges: Sequence[Mapping[Any, float]], groups: Mapping[str, Crossed]
) -> Reliability:
    units = list(dict.fromkeys(unit for said in judges for unit in said))
    told = ([said.get(unit) for said in judges] for unit in units)
    return reliability(told, "ordinal", [groups[unit[0]] for unit in units])


def _tau(first: Sequence[float | None], second: Sequence[float | None]) -> float | None:
    from scipy.stats import kendalltau

    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if len(both) < 3:
        return None
    tau = float(kendalltau([a for a, _ in both], [b for _, b in both]).statistic)
    return None if tau != tau else tau  # noqa: PLR0124 - NaN where a judge gives all runs one mean


class FamilyTest(NamedTuple):
    """Whether two judges of two families favour their own."""

    first: StoredJudge
    second: StoredJudge
    first_family: str
    second_family: str
    means: tuple[float, float, float, float]
    """Of the first judge for its own and the other family, then of the second for the first
    judge's family and for its own; over items with all four."""
    preference: Score
    """`family_preference`: how much higher both together rate their own, in points of the scale."""


@dataclass(frozen=True, slots=True)
class Families:
    """Which family judges and runs belong to."""

    given: Mapping[str, str]
    """Name of a model or judge to its family, where the names do not tell."""

    def of(self, *names: str) -> str | None:
        """Return the family that one of these names is given, or tells."""
        for name in names:
            if name in self.given:
                return self.given[name]
        return next((family for name in names if (family := family_of(name))), None)


def family_tests(
    store: Store,
    runs: Sequence[Run],
    judges: Sequence[StoredJudge],
    families: Families,
) -> list[FamilyTest]:
    """Return, for every two judges of different families, whether they favour their own.

    Args:
        store: where ratings are.
        runs: of both families, over the same items; several of a family are averaged by item.
        judges: that rated them.
        families: what belongs where.

    Raises:
        DataError: there are no two judges of two families with runs of both that both rated.
    """
    rules = stored_rules(store)
    by_family: dict[str, list[Run]] = {}
    for run in runs:
        family = families.of(run.run_id[:8], run.model, row_name(run, rules)[0].model)
        if family is not None:
            by_family.setdefault(family, []).append(run)
    own = {judge.key: families.of(judge.name, *_models(judge)) for judge in judges}
    outcomes = Outcomes(store)
    found = []
    for first, second in permutations([one for one in judges if not chooses(one.spec)], 2):
        one, other = own[first.key], own[second.key]
        if one and other and one < other and one in by_family and other in by_family:
            both = (by_family[one], by_family[other])
            test = _family_test(outcomes, (first, second), both, (one, other))
            if test is not None:
                found.append(test)
    if not found:
        judged = ", ".join(f"{j.label}: {own[j.key] or 'not known'}" for j in judges) or "none"
        has = ", ".join(f"{name} x {len(of)}" for name, of in by_family.items()) or "none"
        raise DataError(
            "the test needs two judges of two families that both rated runs of both families "
            f"(families of the judges: {judged}; of the runs: {has}): name a family that is not "
            "known with --family NAME=FAMILY"
        )
    return found


def _models(judge: StoredJudge) -> tuple[str, ...]:
    backend = judge.spec.get("backend")
    model = backend.get("model") if isinstance(backend, Mapping) else None
    return (str(model),) if model else ()


def _family_test(
    outcomes: Outcomes,
    judges: tuple[StoredJudge, StoredJudge],
    runs: tuple[Sequence[Run], Sequence[Run]],
    families: tuple[str, str],
) -> FamilyTest | None:
    cells = [
        _means_by_item(outcomes, of_family, judge.key) for judge in judges for of_family in runs
    ]
    common = [item for item in sorted(cells[0]) if all(item in cell for cell in cells)]
    if not common:
        return None
    columns = [[cell[item][0] for item in common] for cell in cells]
    signature = join(
        judges=",".join(short(judge.key) for judge in judges),
        families=",".join(families),
        runs=",".join(run.run_id[:8] for of_family in runs for run in of_family),
        ratings="mean per item",
    )
    score = family_preference(
        FamilyRatings(*columns),
        signature=signature,
        groups=[cells[0][item][1] for item in common],
    )
    means = tuple(sum(column) / len(column) for column in columns)
    return FamilyTest(*judges, *families, means, score)  # type: ignore[arg-type]


def _means_by_item(
    outcomes: Outcomes, runs: Sequence[Run], judge: str
) -> dict[str, tuple[float, Hashable]]:
    """Return by item the mean rating over preferences and then a family's runs, and its prompt.

    An item with a rating missing is left out: the mean would be of something else.
    """
    found: dict[str, tuple[float, Hashable]] = {}
    for sheet in outcomes.sheets(runs, "rating_mean", judge):
        if len(sheet.runs) < len(runs):
            continue
        for key, group, row in zip(sheet.keys, sheet.groups, sheet.values.tolist(), strict=True):
            if not any(map(math.isnan, row)):
                found[key] = (sum(row) / len(runs), group.prompt)
    return found


def judges_named(store: Store, names: Sequence[str]) -> list[StoredJudge]:
    """Return the judges of these names, or all of the store.

    Raises:
        ConfigError: no judge, or several, have one of the names.
    """
    return [find_judge(store, name) for name in names] if names else list_judges(store)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeRow:
    """One judge or person."""

    judge: StoredJudge
    protocol: str
    ratings: int
    choices: int
    strict: Mapping[str, float]
    """Strict accuracy, 0-100, by data it was validated on."""
    failings: Sequence[str]


def judge_rows(store: Store) -> list[JudgeRow]:
    """Return every judge of the store, by name."""
    said = count_verdicts(store)
    failing = failing_judges(store)
    strict: dict[str, dict[str, float]] = {}
    for own in largest_validations(store):
        score = own.figures.get("judge", {}).get("strict")
        if score:
            strict.setdefault(own.judge_key, {})[own.data] = score["value"]
    return [
        JudgeRow(
            judge=judge,
            protocol=judge.protocol,
            **said.get(judge.key, Counted(0, 0))._asdict(),
            strict=strict.get(judge.key, {}),
            failings=failing.get(judge.key, ()),
        )
        for judge in list_judges(store)
    ]


def judge_row_json(row: JudgeRow) -> dict[str, Any]:
    """Return a judge as `--json` shows it."""
    return {
        "name": row.judge.name,
        "key": row.judge.key,
        "spec": row.judge.spec.get("spec"),
        "protocol": row.protocol,
        "ratings": row.ratings,
        "choices": row.choices,
        "strict_accuracy": dict(row.strict),
        "judge_failings": list(row.failings),
    }
