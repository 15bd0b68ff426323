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
from mipo_eval.grid.file import Grid, checkpoint_of, is_at_hand
from mipo_eval.grid.status import Status
from mipo_eval.grid.steps import Kind, Row, Step
from mipo_eval.judges.judge import Judge, choice_requests, rating_requests
from mipo_eval.models.base import Request
from mipo_eval.models.lm_eval_served import serving
from mipo_eval.models.prices import FREE, HOW_TO_PRICE, Metered, Price
from mipo_eval.models.spec import find_kind, parse_model, read_name
from mipo_eval.records import Run
from mipo_eval.reports.plan import Amount, Assumed, Needs, needs_of, plan, rough_tokens
from mipo_eval.store.engine import Store
from mipo_eval.store.responses import drawing_seconds, missing, response_tokens
from mipo_eval.store.runs import list_runs
from mipo_eval.store.trainings import list_trainings
from mipo_eval.training.recipes import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What some steps need."""

    what: str
    steps: int
    calls: Amount
    """Responses to draw, or questions to a judge."""
    tokens: Amount
    """Read and written."""
    dollars: Amount
    hours: Amount


def total(amounts: Iterable[Amount]) -> Amount:
    """Return the sum of what is known, and why the rest is not; None where nothing is."""
    found = list(amounts)
    known = [one.value for one in found if one.value is not None]
    unknown = dict.fromkeys(one.source for one in found if one.value is None)
    return Amount(value=sum(known) if known or not found else None, source="; ".join(unknown))


class Estimate:
    """What steps of a grid need, by what earlier ones in the store took."""

    def __init__(self, store: Store, status: Status, grid: Grid) -> None:
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

    def _specs(self, row: Row) -> tuple[str, ...]:
        """Return who rates a row."""
        asked = self._grid.options(row.model, row.suite, row.prompting)
        own = self._grid.suite(row.suite).judge
        return asked.judges or ((own,) if own else ())

    def _drawing(self, what: str, steps: Sequence[Step], count: Callable[[Row], int]) -> Need:
        """Return what it takes to draw responses, and to train on them."""
        calls = total(_counted(count, step.row) for step in steps)
        row = steps[0].row
        tokens = dollars = calls
        if calls.value is not None:
            try:
                tokens, dollars = self._priced(steps[0], int(calls.value))
            except MipoEvalError as error:
                tokens = dollars = Amount(value=None, source=str(error))
        hours = None
        if steps[0].kind == "train":
            hours = total(self._training_hours(one.row) for one in steps)
        return Need(
            what=what,
            steps=len(steps),
            calls=calls,
            tokens=tokens,
            dollars=dollars,
            hours=hours or self._drawing_hours(row, calls),
        )

    def _drawn(self, row: Row) -> int:
        """Return how many responses a training draws, at most."""
        request = self._status.request(row)
        return round(sum(len(one.items) for one in request.data) * _draws(request.recipe))

    def _missing(self, row: Row) -> int:
        """Return how many responses of a row the store does not have."""
        if run := self._run(row):
            return len(missing(self._store, run.list_key, run.generation_key))
        return sum(len(items) for _, items in self._status.tasks(row.suite))

    def _run(self, row: Row) -> Run | None:
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
        most = self._grid.suite(row.suite).max_tokens
        items = [item for _, of_task in self._status.tasks(row.suite) for item in of_task]
        size = sum(len(item.prompt) + len(item.context) for item in items)
        read = rough_tokens(size, len(items)) / len(items) * calls
        told = [response_tokens(self._store, run) for run in self._alike(row)]
        made = sum(count for count, _, own in told if own)
        each = sum(own or 0 for _, _, own in told) / made if made else most
        source = "lengths as in stored runs" if made else f"at most {most} a response"
        tokens = Amount(value=read + each * calls, source=source)
        price = _price_of(name)
        if price is None:
            return tokens, Amount(value=None, source=f"no price of {name}: {HOW_TO_PRICE}")
        return tokens, Amount(value=price.cost(round(read), round(each * calls)), source=source)

    def _alike(self, row: Row) -> list[Run]:
        """Return stored runs of a base model, and of what was trained of it, on a suite."""
        name = self._grid.suite(row.suite).name
        return [run for base, run in self._runs if (base, run.suite) == (row.model.model, name)]

    def _drawing_hours(self, row: Row, calls: Amount) -> Amount:
        if not calls.value:
            return calls
        found = [(drawing_seconds(self._store, run), run.n_items) for run in self._alike(row)]
        known = [(seconds, n) for seconds, n in found if seconds > 0]
        if not known:
            why = f"no stored run of {row.model.name} on {row.suite.name} tells how long one takes"
            return Amount(value=None, source=why)
        each = sum(seconds for seconds, _ in known) / sum(n for _, n in known)
        return Amount(value=each * calls.value / 3600, source=f"as {len(known)} stored runs took")

    def _training_hours(self, row: Row) -> Amount:
        """Return how long trainings of the method on the base model and suite took."""
        assert row.method
        name = self._grid.recipe(row.model, row.suite, row.method).name
        wanted = (name, row.model.model, self._grid.suite(row.suite).name)
        took = [
            (one.updated_at - one.created_at).total_seconds()
            for one in self._trainings
            if (one.method, one.model, one.suite) == wanted
        ]
        if not took:
            why = f"no stored training by {name} of {row.model.name} tells how long one takes"
            return Amount(value=None, source=why)
        return Amount(value=fmean(took) / 3600, source=f"as {len(took)} stored trainings took")

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
            calls=found.calls,
            tokens=total([read, written]),
            dollars=dollars,
            hours=_times(minutes, 1 / 60),
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
        return _Asked(Amount(value=count, source="those of references, which rows share, count once"), new.calls, needs)

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
        most = Amount(value=len(requests) * len(steps), source="of choices, both orders of each pair")
        return _Asked(most, len(requests), needs_of(self._store, judge, requests))

    def _judge(self, spec: str, row: Row, *, duel: bool = False) -> Judge:
        """Return a judge to count by; one whose checkpoint is not here as if a server had it."""
        kind = row.model.model
        name = checkpoint_of(spec, kind)
        if name is not None and not is_here(name):
            spec = f"openai:{name}@http://localhost"
        return self._status.judge(spec, kind, duel=duel)


class _Asked(NamedTuple):
    """How much a judge is asked in all, and what so many others need."""

    calls: Amount
    of: int
    needs: Needs


def _counted(count: Callable[[Row], int], row: Row) -> Amount:
    try:
        return Amount(value=count(row), source="")
    except MipoEvalError as error:
        return Amount(value=None, source=str(error))


def _times(amount: Amount, factor: float) -> Amount:
    return amount if amount.value is None else replace(amount, value=amount.value * factor)


def _grouped(steps: Sequence[Step], kind: Kind) -> dict[tuple[str, str], list[Step]]:
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
