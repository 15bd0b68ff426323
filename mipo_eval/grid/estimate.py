"""What is left of a grid, in hours, tokens and money; nothing is asked and nothing is written.

What nobody can know is said to be unknown, with the reason. Ratings of references, which all rows
share, are counted once; responses that trainings share are not told apart here.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import NamedTuple

from mipo_eval.checkpoints import is_here
from mipo_eval.errors import MipoEvalError
from mipo_eval.grid.file import GridFile
from mipo_eval.grid.hand import checkpoint_of, is_at_hand
from mipo_eval.grid.status import Status
from mipo_eval.grid.steps import GridEntry, Step, StepKind, judges_of, suite_of
from mipo_eval.judges.judge import Judge, choice_requests, rating_requests
from mipo_eval.judges.presets import family_preset, is_family
from mipo_eval.models.base import Request
from mipo_eval.models.lm_eval_served import serving
from mipo_eval.models.prices import FREE, HOW_TO_PRICE, Metered, Price
from mipo_eval.models.spec import checkpoint_name, find_kind, parse_model, read_name
from mipo_eval.records import Run
from mipo_eval.reports.plan import Amount, Assumed, Needs, needs_of, plan, rough_tokens
from mipo_eval.store.engine import Store
from mipo_eval.store.responses import drawing_seconds, missing, response_tokens
from mipo_eval.store.runs import list_runs
from mipo_eval.store.trainings import list_trainings
from mipo_eval.tasks.suites import find_suite
from mipo_eval.training.memory import estimate_memory, workload_of
from mipo_eval.training.recipes import Recipe, recipe_dict


class Sum(NamedTuple):
    """A sum of amounts."""

    value: float | None
    """Of what is known; None where nothing is."""
    sources: tuple[str, ...]
    """Where that comes from."""
    unknown: tuple[str, ...]
    """Why the rest is not known; empty where all is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What some steps need."""

    what: str
    steps: int
    calls: Sum
    """Responses to draw, or questions to a judge."""
    tokens: Sum
    """Read and written."""
    dollars: Sum
    hours: Sum


def added(amounts: Iterable[Amount | Sum]) -> Sum:
    """Return a sum, with where its parts come from and what of it is not known."""
    values: list[float] = []
    sources: list[str] = []
    unknown: list[str] = []
    for one in amounts:
        values += [] if one.value is None else [one.value]
        if isinstance(one, Sum):
            sources += one.sources
            unknown += one.unknown
        else:
            (unknown if one.value is None else sources).append(one.source)
    known = sum(values) if values or not unknown else None
    return Sum(known, *(tuple(dict.fromkeys(filter(None, s))) for s in (sources, unknown)))


class Estimate:
    """What steps of a grid need, by what earlier ones in the store took."""

    def __init__(self, store: Store, status: Status, grid: GridFile) -> None:
        self._store, self._status, self._grid = store, status, grid
        self._trainings = [one for one in list_trainings(store) if one.status == "done"]
        base = {str(one.checkpoint): one.model for one in self._trainings}
        self._runs = [(base.get(run.model, run.model), run) for run in list_runs(store)]

    def needs(self, left: Sequence[Step]) -> Iterator[Need]:
        """Yield what the steps that are not done need: by kind, base model, judge and suite."""
        for (model, suite), own in _grouped(left, "train").items():
            yield self._drawing(f"train {model} on {suite}", own, self._drawn)
        asked = _grouped(left, "evaluate")
        for (model, suite), own in asked.items():
            yield self._drawing(f"responses of {model} to {suite}", own, self._missing)
        for (model, suite), own in asked.items():
            for spec in self._specs(own[0].row):
                yield self._judging(f"ratings of {model} on {suite}", spec, own)
        for (model, suite), own in _grouped(left, "judge").items():
            for spec in self._grid.pairwise:
                pairs = [step for step in own if step.judge == spec]
                yield self._judging(f"choices: {model} on {suite}", spec, pairs)

    def memory(self, left: Sequence[Step]) -> Iterator[tuple[str, Amount]]:
        """Yield each base model with the most bytes of one device that a training of it takes."""
        rows = [step.row for step in left if step.kind == "train"]
        for model in {row.model.name: row.model for row in rows}.values():
            recipes = [
                self._grid.recipe(model, row.suite, row.method)
                for row in rows
                if row.method and row.model == model
            ]
            if not is_at_hand(model):  # the hub would be asked for its configuration
                yield model.name, Amount(value=None, source="it is not on this machine yet")
                continue
            name = checkpoint_name(model.model)
            most = max(
                estimate_memory(name, one.optimization, workload=workload_of(one)).total
                for one in recipes
            )
            yield model.name, Amount(value=most, source="from train --estimate")

    def _specs(self, row: GridEntry) -> tuple[str, ...]:
        """Return who rates a row."""
        own = suite_of(self._grid, row.suite).judge
        return tuple(judges_of(self._grid, row.suite)) or ((own,) if own else ())

    def _drawing(self, what: str, steps: Sequence[Step], count: Callable[[GridEntry], int]) -> Need:
        """Return what it takes to draw responses, and to train on them."""
        calls = added(_counted(count, one.row) for one in steps)
        try:
            tokens, dollars = self._priced(steps[0], round(calls.value or 0))
        except MipoEvalError as error:
            tokens = dollars = Amount(value=None, source=str(error))
        if steps[0].kind == "train":
            hours = self._training_hours([one.row for one in steps])
        else:
            hours = added([self._drawing_hours(steps[0].row, calls.value or 0)])
        short = (None, (), calls.unknown)
        return Need(
            what=what,
            steps=len(steps),
            calls=calls,
            tokens=Sum(*short) if calls.value is None else added([tokens]),
            dollars=Sum(*short) if calls.value is None else added([dollars]),
            hours=hours,
        )

    def _drawn(self, row: GridEntry) -> int:
        """Return how many responses a training draws, at most."""
        assert row.method
        recipe = self._grid.recipe(row.model, row.suite, row.method)
        return round(self._status.training_items(row) * _draws(recipe))

    def _missing(self, row: GridEntry) -> int:
        """Return how many responses of a row the store does not have."""
        if run := self._run(row):
            return len(missing(self._store, run.list_key, run.generation_key))
        return sum(len(items) for _, items in self._status.tasks(row.suite))

    def _run(self, row: GridEntry) -> Run | None:
        """Return a row's run, where there can be one."""
        known = row.method is None or row.name in self._status.trained
        return self._status.run(row) if known and is_at_hand(row.model) else None

    def _priced(self, step: Step, calls: int) -> tuple[Amount, Amount]:
        """Return tokens and dollars of responses, a training's or an evaluation's.

        Raises:
            MipoEvalError: the suite's items are not there, or the model is none.
        """
        row, name = step.row, step.row.model.model
        if row.method and step.kind == "train":
            name = self._grid.recipe(row.model, row.suite, row.method).sampling.model or name
        most = suite_of(self._grid, row.suite).max_tokens
        items = [item for _, of_task in self._status.tasks(row.suite) for item in of_task]
        size = sum(len(item.prompt) + len(item.context) for item in items)
        read = rough_tokens(size, len(items)) / len(items) * calls
        told = [response_tokens(self._store, run) for run in self._alike(row)]
        made = sum(count for count, _, own in told if own)
        each = sum(own or 0 for _, _, own in told) / made if made else most
        source = "lengths of responses in the store" if made else f"at most {most} per response"
        tokens = Amount(value=read + each * calls, source=source)
        price = _price_of(name)
        if price is None:
            return tokens, Amount(value=None, source=f"no price of {name}: {HOW_TO_PRICE}")
        free = "free: models on your own machines"
        cost = price.cost(round(read), round(each * calls))
        return tokens, Amount(value=cost, source=free if price == FREE else source)

    def _alike(self, row: GridEntry) -> list[Run]:
        """Return stored runs of a base model, and of what was trained of it, on a suite."""
        name = suite_of(self._grid, row.suite).name
        return [run for base, run in self._runs if (base, run.suite) == (row.model.model, name)]

    def _drawing_hours(self, row: GridEntry, calls: float) -> Amount:
        """Return how long responses take, as those of stored runs on the same items did."""
        try:
            key = self._status.list_key(row.suite)
        except MipoEvalError as error:
            return Amount(value=None, source=str(error))
        found = [
            drawing_seconds(self._store, run) / run.n_items
            for run in self._alike(row)
            if run.list_key == key
        ]
        if not (took := [seconds for seconds in found if seconds > 0]):
            where = f"{row.model.name} on {row.suite.name}"
            return Amount(value=None, source=f"the store has no run of {where} to measure")
        source = f"as long as {len(took)} runs in the store took"
        return Amount(value=fmean(took) * calls / 3600, source=source)

    def _training_hours(self, rows: Sequence[GridEntry]) -> Sum:
        """Return how long trainings take, as their other seeds did."""
        lacking, known = [], []
        for row in rows:
            assert row.method
            recipe = recipe_dict(self._grid.recipe(row.model, row.suite, row.method))
            suite = find_suite(row.suite.learned).name
            took = [
                (one.updated_at - one.created_at).total_seconds() / 3600
                for one in self._trainings
                if (one.model, one.suite, one.recipe) == (row.model.model, suite, recipe)
            ]
            if took and not row.method.sweep:
                known.append(Amount(value=fmean(took), source="as long as other seeds took"))
            else:
                lacking.append(row.label)
        if lacking:
            names = ", ".join(dict.fromkeys(lacking))
            where = f"{rows[0].model.name} on {rows[0].suite.name}"
            why = f"no seed of {names} on {where} is done yet"
            return added([*known, Amount(value=None, source=why)])
        return added(known)

    def _judging(self, what: str, spec: str, steps: Sequence[Step]) -> Need:
        """Return what a judge is asked about these rows, or pairs of them."""
        try:
            found = (self._choices if steps[0].kind == "judge" else self._ratings)(spec, steps)
        except MipoEvalError as error:
            unknown = Amount(value=None, source=str(error))
            found = _Asked(unknown, 0, Needs(unknown, unknown, unknown, unknown))
        share = (found.calls.value or 0) / found.of if found.of else 0.0
        read, written, dollars, minutes = (_times(one, share) for one in found.needs)
        return Need(
            what=f"{what}, by {spec}",
            steps=len(steps),
            calls=added([found.calls]),
            tokens=added([read, written]),
            dollars=added([dollars]),
            hours=added([_times(minutes, 1 / 60)]),
        )

    def _ratings(self, spec: str, steps: Sequence[Step]) -> "_Asked":
        judge = self._judge(spec, steps[0].row)
        tasks = self._status.tasks(steps[0].row.suite)
        assumed = Assumed(controls=self._grid.evaluation.controls)
        new = plan(self._store, tasks, judge, generation_key=None, assumed=assumed)
        count = references = new.calls - new.on_unmade
        for step in steps:
            run = self._run(step.row)
            key = run.generation_key if run else None
            own = plan(self._store, tasks, judge, generation_key=key, assumed=assumed)
            count += max(0, own.calls - references)
        needs = Needs(new.prompt_tokens, new.completion_tokens, new.cost, new.minutes)
        return _Asked(
            Amount(value=count, source="ratings of references are shared and counted once"),
            new.calls,
            needs,
        )

    def _choices(self, spec: str, steps: Sequence[Step]) -> "_Asked":
        judge = self._judge(spec, steps[0].row, duel=True)
        requests: list[Request] = []
        for _, items in self._status.tasks(steps[0].row.suite):
            for item in items:
                # The reference stands in for both responses: only its length is used.
                text = item.reference or item.prompt
                if judge.protocol == "rubric":
                    requests += rating_requests(judge, item, text)
                elif item.preferences:
                    requests += choice_requests(judge, item, text, text)
        most = Amount(value=len(requests) * len(steps), source="each pair is judged in both orders")
        return _Asked(most, len(requests), needs_of(self._store, judge, requests))

    def _judge(self, spec: str, row: GridEntry, *, duel: bool = False) -> Judge:
        """Return a judge to count by; one whose checkpoint is not here as if a server had it."""
        kind = row.model.model
        name, named = checkpoint_of(spec, kind), read_name(spec)
        if name is not None and not is_here(name):
            preset = family_preset(kind) if is_family(spec) else named.name
            spec = f"{f'openai:{name}' if named.kind else preset}@http://localhost"
        return self._status.judge(spec, kind, duel=duel)


class _Asked(NamedTuple):
    """How much a judge is asked in all, and what so many others need."""

    calls: Amount
    of: int
    needs: Needs


def _counted(count: Callable[[GridEntry], int], row: GridEntry) -> Amount:
    try:
        return Amount(value=count(row), source="")
    except MipoEvalError as error:
        return Amount(value=None, source=str(error))


def _times(amount: Amount, factor: float) -> Amount:
    return amount if amount.value is None else replace(amount, value=amount.value * factor)


def _grouped(steps: Sequence[Step], kind: StepKind) -> dict[tuple[str, str], list[Step]]:
    """Return the steps of a kind by base model and suite."""
    groups: dict[tuple[str, str], list[Step]] = {}
    for step in steps:
        if step.kind == kind:
            groups.setdefault((step.row.model.name, step.row.suite.name), []).append(step)
    return groups


def _draws(recipe: Recipe) -> float:
    """Return how many responses a training draws for each item, at most."""
    pairs = recipe.pairs
    drawn = pairs is not None and pairs.negatives not in {"reshuffle", "random-strings"}
    counts = {
        "pairs": 1 + (pairs.n_negatives if pairs and drawn else 0),
        "own": 1,
        "revision": 3,
        "answer": 2,
        "prompts": recipe.optimization.epochs * getattr(recipe.settings, "generations", 1),
    }
    return counts.get(recipe.learns_from, 0)


def _price_of(name: str) -> Price | None:
    """Return what a model's tokens cost; None where no table says it."""
    kind = find_kind(read_name(name).kind or "hf")
    if kind is None or not kind.served:
        return FREE
    backend = serving(parse_model(name), {})
    return backend.price if isinstance(backend, Metered) else FREE
