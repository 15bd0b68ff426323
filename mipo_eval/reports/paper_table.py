"""The store laid out as the paper's tables: what was measured, published, and printed by others."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import NamedTuple

from mipo_eval.errors import ConfigError
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.reports.leaderboard import Cell, LeaderboardQuery, leaderboard
from mipo_eval.reports.names import RowName, RowRule
from mipo_eval.reports.others import OtherNumber
from mipo_eval.reports.paper import (
    ACCURACY,
    AVERAGE,
    BLEU,
    CHECKED,
    JUDGED,
    TASKS,
    WIN,
    Published,
    Table,
    published,
)
from mipo_eval.reports.paper_entries import DATASETS, METRICS, PaperEntry, Warned
from mipo_eval.reports.warned import is_paper_judge, judge_model, warnings_of
from mipo_eval.signature import short
from mipo_eval.store.engine import Store
from mipo_eval.store.judges import (
    StoredJudge,
    Validation,
    failing_by_short_key,
    find_judge,
    largest_validations,
    list_judges,
)

NOT_MEASURED = "not in the store"
NOT_VALIDATED = "not validated on these pairs: mipo-eval validate"
_BY_NEGATIVES = (5, 6)
_AVERAGED = (2, 3, 4)
_BASE = "none (base)"


class _Found(NamedTuple):
    """A number of the store, and whose it is."""

    name: RowName
    cell: Cell
    judge: StoredJudge | None
    failings: tuple[str, ...]


class _Measured(NamedTuple):
    """The numbers of the store by model, row of the table and data set, the first two lower."""

    of_table: Table
    found: Mapping[tuple[str, str, str], Sequence[_Found]]

    def get(self, model: str, method: str, dataset: str) -> _Found | None:
        """Return the number of a place, judged by the paper's judge of the model if by several.

        Raises:
            ConfigError: several judges judged, none of them the paper's.
        """
        found = list(self.found.get((model.lower(), method.lower(), dataset), ()))
        if len(_judges(found)) > 1:
            own = [one for one in found if one.judge and is_paper_judge(one.judge, model)]
            if len(_judges(own)) != 1:
                names = ", ".join(sorted(_judges(found)))
                raise ConfigError(f"several judges judged: {names}; choose one with --judge")
            found = own
        return min(
            found, key=lambda one: (bool(one.cell.differs), -(one.cell.n or 0)), default=None
        )


def _judges(found: Iterable[_Found]) -> set[str]:
    return {one.judge.label for one in found if one.judge is not None}


def paper_table(
    store: Store,
    table: Table,
    *,
    judge: str | None = None,
    rules: Sequence[RowRule] = (),
    others: Sequence[OtherNumber] = (),
) -> list[PaperEntry]:
    """Return a table of the paper: its numbers, with the store's beside them, and other rows.

    Rows of the store that the paper does not have come after those it has, and then what others
    printed of the table's data sets, or of others in its metric.

    Args:
        store: where the runs are.
        table: which.
        judge: name or key of the judge of the win rates; where several judged it is the paper's
            judge of each model unless one is named.
        rules: what runs are called; without them only base models are recognised.
        others: what other people printed.

    Raises:
        ConfigError: no such table, or several judges judged and none is named.
    """
    numbers = published(table)
    printed = [_printed(table, one) for one in others if one.metric_name in METRICS[table]]
    if table == 7:
        return [*_validations(store, numbers), *printed]
    measured = _Measured(table, _found(store, table, judge, rules))
    if table == "results":
        entries = [_alone(number) for number in numbers]
    else:
        entries = [_entry(measured, number) for number in numbers]
    return [*entries, *_own(measured, numbers), *printed]


def _alone(number: Published) -> PaperEntry:
    """Return a printed number with nothing measured beside it yet."""
    place = PaperEntry(model=number.model, method=number.method, dataset=number.dataset)
    return replace(place, published=number)


def _printed(table: Table, other: OtherNumber) -> PaperEntry:
    number = Published(
        table=table,
        model=other.model,
        method=other.method,
        dataset=other.dataset,
        value=other.value,
        std=other.std,
        source=other.source,
    )
    return replace(_alone(number), n=other.n, absent="printed by others")


def _found(
    store: Store, table: Table, judge: str | None, rules: Sequence[RowRule]
) -> dict[tuple[str, str, str], list[_Found]]:
    now, failing = Snapshot(store), failing_by_short_key(store)
    judges = {short(known.key): known for known in now.judges}
    datasets = {TASKS[name]: name for name in DATASETS[table]}
    found: dict[tuple[str, str, str], list[_Found]] = {}
    for metric in METRICS[table]:
        asked = LeaderboardQuery(
            metric=metric,
            judge=find_judge(store, judge).key if judge and metric == WIN else None,
            rules=tuple(rules),
            variants_apart=table in _BY_NEGATIVES,
            tasks=tuple(task for task, name in datasets.items() if _metric(table, name) == metric),
        )
        for section in leaderboard(now, asked):
            for row, task in product(section.rows, section.tasks):
                cell = row.cells.get(task)
                label = _label(table, row.name, datasets[task])
                if cell is not None and label is not None:
                    key = cell.signature.parts.get("judge_key", "")
                    by = judges.get(key) if metric == WIN else None
                    one = _Found(row.name, cell, by, failing.get(key, ()) if by else ())
                    place = (row.name.model.lower(), label.lower(), datasets[task])
                    found.setdefault(place, []).append(one)
    return found


def _metric(table: Table, dataset: str) -> str:
    if table in {3, 4}:
        return BLEU
    return WIN if dataset in JUDGED else ACCURACY


def _label(table: Table, name: RowName, dataset: str) -> str | None:
    """Return which row of a table a method is; None where the table has no place for it.

    Tables 5 and 6 are of MIPO alone, by how its negatives are made: Table 6 says how many there
    are, and its caption that they are random.
    """
    if table not in _BY_NEGATIVES:
        return name.method
    if name.method.lower() != "mipo":
        base = "base" if dataset in CHECKED else "personalized prompting"
        return _BASE if table == 5 and name.method.lower() == base else None
    variant = name.variant or ""
    if table == 5:
        return variant if variant and " x " not in variant else None
    if variant in {"random", "random strings"}:
        return "1" if variant == "random" else variant
    count = variant.removeprefix("random x ")
    return count if count.isdigit() else None


def _entry(measured: _Measured, number: Published) -> PaperEntry:
    made = _at(measured, number.model, number.method, number.dataset)
    return replace(made, published=number)


def _at(measured: _Measured, model: str, method: str, dataset: str) -> PaperEntry:
    """Return what the store has for a place of a table."""
    place = PaperEntry(model=model, method=method, dataset=dataset)
    if dataset == AVERAGE:
        return _average(place, measured)
    found = measured.get(model, method, dataset)
    if found is None:
        return replace(place, absent=NOT_MEASURED)
    cell = found.cell
    if cell.value is None:
        return replace(place, absent="no item could be scored")
    return replace(
        place,
        measured=cell.value,
        std=cell.std,
        n=cell.n,
        seeds=cell.seeds,
        best_of=cell.best_of_text,
        tie_rate=cell.tie_rate,
        level=None if cell.differs else cell.value if cell.level is None else cell.level,
        letters=cell.letters,
        judge=found.judge.label if found.judge else None,
        signature=cell.signature,
        warned=warnings_of(cell, dataset, model, found.judge, found.failings),
    )


def _average(place: PaperEntry, measured: _Measured) -> PaperEntry:
    wanted = DATASETS[measured.of_table]
    parts = [_at(measured, place.model, place.method, dataset) for dataset in wanted]
    if missing := [part.dataset for part in parts if part.measured is None]:
        return replace(place, absent=f"{NOT_MEASURED}: {', '.join(missing)}")
    values = [part.measured for part in parts if part.measured is not None]
    counts = [part.n for part in parts if part.n is not None]
    mean = sum(values) / len(values)
    some_warned = any(part.warned for part in parts)
    return replace(
        place,
        measured=mean,
        n=sum(counts) if len(counts) == len(parts) else None,
        seeds=min(part.seeds or 1 for part in parts),
        level=None if any(part.level is None for part in parts) else mean,
        warned=(Warned("a mean of numbers of which some have a warning"),) if some_warned else (),
    )


def _own(measured: _Measured, numbers: Sequence[Published]) -> Iterator[PaperEntry]:
    """Yield the numbers of the store that the paper's table has no place for."""
    table = measured.of_table
    of_results = table == "results"
    known = set() if of_results else {(n.model.lower(), n.method.lower()) for n in numbers}
    told: dict[tuple[str, str], tuple[str, str]] = {}
    for (model, method, dataset), found in measured.found.items():
        label = _label(table, found[0].name, dataset)
        told.setdefault((model, method), (found[0].name.model, label or ""))
    trained = {model for (model, method) in told if method != _BASE}
    averaged = (AVERAGE,) if table in _AVERAGED else ()
    printed = {(n.method.lower(), n.dataset): n for n in numbers if of_results}
    for (model, method), (shown, label) in told.items():
        if (model, method) in known or (table in _BY_NEGATIVES and model not in trained):
            continue
        for dataset in (*(() if table == 3 else DATASETS[table]), *averaged):
            made = _at(measured, shown, label, dataset)
            if made.measured is not None or made.absent != NOT_MEASURED:
                yield replace(made, published=printed.get((method, dataset)))


def _validations(store: Store, numbers: Sequence[Published]) -> list[PaperEntry]:
    """Return Table 7: validations by the judge's model and the name of the data."""
    judges = {judge.key: judge for judge in list_judges(store)}
    found: dict[tuple[str, str], tuple[str, Validation]] = {}
    for own in largest_validations(store):
        if own.judge_key in judges:
            name = judge_model(judges[own.judge_key])
            found[name.lower(), own.data] = (name, own)
    entries = [_validation(number, found) for number in numbers]
    known = {number.model.lower() for number in numbers}
    for (_, data), (name, _) in found.items():
        paper = next((dataset for dataset in DATASETS[7] if TASKS[dataset] == data), None)
        if paper is not None and name.lower() not in known:
            for kind in ("strict", "tie-tolerant"):
                place = Published(table=7, model=name, method=kind, dataset=paper, value=0.0)
                entries.append(replace(_validation(place, found), published=None))
    return entries


def _validation(
    number: Published, found: Mapping[tuple[str, str], tuple[str, Validation]]
) -> PaperEntry:
    empty = replace(_alone(number), absent=NOT_VALIDATED)
    if (own := found.get((number.model.lower(), TASKS[number.dataset]))) is None:
        return empty
    score = own[1].figures.get("judge", {}).get(number.method.replace("-", "_"))
    if not score:
        return empty
    warned = tuple(Warned("the judge fails its validation", line) for line in own[1].failings)
    return replace(
        empty, measured=score["value"], n=score["n"], seeds=1, absent=None, warned=warned
    )
