"""How far a grid is: what of it the store has, and where."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from mipo_eval import settings
from mipo_eval.checkpoints import is_here
from mipo_eval.compare.entrants import Entrant, Field, responses_of
from mipo_eval.compare.head_to_head import is_judged
from mipo_eval.errors import MipoEvalError
from mipo_eval.evaluation.generate import Evaluation, responses_spec, run_id_of
from mipo_eval.grid.file import GridFile, SuitePart
from mipo_eval.grid.hand import checkpoint_of, is_at_hand, load_duellist
from mipo_eval.grid.steps import GridEntry, Step, judges_of, rows_of, steps_of, suite_of
from mipo_eval.judges.judge import Judge
from mipo_eval.judges.presets import load_judge
from mipo_eval.keys import digest
from mipo_eval.models.base import CALL_FAILED
from mipo_eval.models.spec import ModelSpec
from mipo_eval.records import Item, Run
from mipo_eval.signature import short
from mipo_eval.store.engine import Store
from mipo_eval.store.items import key_of_list
from mipo_eval.store.responses import missing
from mipo_eval.store.runs import get_scores, list_runs
from mipo_eval.store.trainings import Training, list_trainings
from mipo_eval.tasks.sources import suite_items
from mipo_eval.training.folder import SWEEP_FOLDER, holder, is_complete
from mipo_eval.training.recipes import Recipe

Found = TypeVar("Found")
Tasks = list[tuple[str, list[Item]]]
"""Names of tasks with their items."""
_UNFINISHED = {
    "running": "it has begun",
    "stopped": "it was stopped",
    "done": "its checkpoint is not there",
}
"""What is said of trainings without a checkpoint, by how they ended."""


class State(NamedTuple):
    """How far a step is."""

    status: Literal["done", "to do", "failed"]
    reason: str = ""
    """Why it is not done, where there is more to say."""


class _Unknown(MipoEvalError):
    """What nobody can know on this machine."""


class TrainingNames(NamedTuple):
    """What a training is known by."""

    folder: str
    """What its folder says whose it is; of a sweep, not the id of a training."""
    ids: tuple[str, ...]
    """Of the trainings one of which it may be: of a sweep, one for each value."""


class Work(Protocol):
    """What the commands make of a row; it stands above this package, and is handed in."""

    def evaluation(self, model: str, row: GridEntry) -> Evaluation:
        """Return how a model is asked in a row's place; the suite's own judges, if it has any."""
        ...

    def training(self, row: GridEntry) -> TrainingNames:
        """Return what the training of a row is known by."""
        ...

    def items(self, row: GridEntry) -> int:
        """Return how many items a row learns from."""
        ...

    def check(self, model: ModelSpec, recipe: Recipe) -> None:
        """Refuse what cannot be trained."""
        ...


@contextmanager
def _looked() -> Iterator[list[State]]:
    """Take an error for a state: what cannot be looked at has failed, or is not known yet."""
    found: list[State] = []
    try:
        yield found
    except _Unknown as error:
        found[:] = [State("to do", str(error))]
    except MipoEvalError as error:
        found[:] = [State("failed", str(error))]


class Status:
    """Looks a grid's steps up in a store; what cannot change in the meantime is read once."""

    def __init__(self, store: Store, grid: GridFile, work: Work) -> None:
        self._store, self._grid, self._work = store, grid, work
        self.rows = list(rows_of(grid))
        self._names: dict[str, TrainingNames] = {}
        self._evaluations: dict[str, Evaluation] = {}
        self._items: dict[str, Any] = {}
        self._judges: dict[tuple[str, str], Judge] = {}
        found = {row.name: self._training(row) for row in self.rows}
        self.checkpoints = {name: folder for name, (_, folder) in found.items()}
        """By the name of a row, the model that is evaluated."""
        self.trained = {name for name, (state, _) in found.items() if state.status == "done"}
        """Names of the rows that needed no training any more."""
        self.steps = steps_of(grid, self.rows, self.checkpoints)

    def of(self, step: Step) -> State:
        """Return how far a step is now."""
        if step.kind == "train":
            return self._training(step.row)[0]
        with _looked() as found:
            if step.kind == "evaluate":
                found.append(self._evaluated(step.row))
            else:
                found.append(self._judged(step))
        return found[0]

    def run(self, row: GridEntry) -> Run | None:
        """Return the run of a row, as far as there is one."""
        evaluation = self._evaluation(row)
        generation_key = digest(responses_spec(evaluation))
        run_id = run_id_of(evaluation.suite, self.list_key(row.suite), generation_key)
        return next((run for run in list_runs(self._store) if run.run_id == run_id), None)

    def made(self, step: Step) -> str | None:
        """Return the id of what a step that is done has made: a training, or a run."""
        if step.kind == "judge" or (step.row.method is None and step.kind == "train"):
            return None
        if step.kind == "train":
            done = self._done(step.row)
            return done.training_id if done else None
        run = self.run(step.row)
        return run.run_id if run else None

    def _known(self, row: GridEntry) -> list[Training]:
        """Return the stored trainings one of which may be that of a row."""
        if row.name not in self._names:
            if not is_at_hand(row.model):
                raise _Unknown(f"{row.model.model} is not on this machine yet")
            self._names[row.name] = self._work.training(row)
        by_id = {one.training_id: one for one in list_trainings(self._store)}
        return [by_id[one] for one in self._names[row.name].ids if one in by_id]

    def _done(self, row: GridEntry) -> Training | None:
        """Return the training of a row, if its checkpoint is there."""
        return next(filter(_is_done, self._known(row)), None)

    def _training(self, row: GridEntry) -> tuple[State, str]:
        """Return how far the training of a row is, and its checkpoint's folder."""
        if row.method is None:
            return State("done"), row.model.model
        usual = self._grid.folder / row.place
        with _looked() as found:
            if done := self._done(row):
                return State("done"), str(done.checkpoint)
            known, own = self._known(row), self._names[row.name].folder
            if holder(usual) not in {None, own}:  # what was changed is another training
                usual = usual.with_name(f"{usual.name}-{own[:8]}")
            found.append(_unfinished(known))
        return found[0], str(usual)

    def _evaluation(self, row: GridEntry) -> Evaluation:
        name = self.checkpoints[row.name]
        if row.method is None and not is_at_hand(row.model):
            raise _Unknown(f"{name} is not on this machine yet")
        if row.name not in self._evaluations:
            self._evaluations[row.name] = self._work.evaluation(name, row)
        return self._evaluations[row.name]

    def _evaluated(self, row: GridEntry) -> State:
        if self._training(row)[0].status != "done":
            return State("to do")
        run = self.run(row)
        if run is None:
            return State("to do")
        if left := len(missing(self._store, run.list_key, run.generation_key)):
            return State("to do", f"{left:,} of {run.n_items:,} responses are missing")
        scores = [one for one in get_scores(self._store, run.run_id) if one.control is None]
        evaluation = self._evaluation(row)
        specs = judges_of(self._grid, row.suite)
        judges = [self.judge(spec, evaluation.model.kind) for spec in specs] or evaluation.judges
        for judge in judges:
            own = [one for one in scores if one.judge_key == short(judge.key)]
            failed = max((_failed(one.unscored_reasons) for one in own), default=0)
            if not own:
                return State("to do", f"{judge.name} has not rated it")
            if failed:
                return State("to do", f"calls to {judge.name} failed for {failed:,} items")
        return State("done") if scores else State("to do", "it has no scores yet")

    def _judged(self, step: Step) -> State:
        assert step.against
        sides = (step.row, step.against)
        for row in sides:
            if self._evaluated(row).status != "done":
                return State("to do")
        entries = [(task, item) for task, items in self.tasks(step.row.suite) for item in items]
        name = suite_of(self._grid, step.row.suite).name
        field = Field(suite=name, list_key=self.list_key(step.row.suite), entries=entries)
        texts = []
        for letter, row in zip("AB", sides, strict=True):
            entrant = Entrant(label=letter, name=row.name, about="", run=self.run(row), kind=None)
            texts.append(responses_of(self._store, entrant, field.items))
        judge = self.judge(step.judge, self._evaluation(step.row).model.kind, duel=True)
        pairs = list(zip(*texts, strict=True))
        return State("done" if is_judged(self._store, judge, field, [pairs]) else "to do")

    def judge(self, spec: str, kind: str, *, duel: bool = False) -> Judge:
        """Return a judge for models of a kind, that rates or chooses between two responses.

        Raises:
            MipoEvalError: there is none, or its checkpoint is not on this machine yet.
        """
        if (spec, f"{kind} {duel}") not in self._judges:
            load = load_duellist if duel else load_judge
            name = checkpoint_of(spec, kind)
            if name is not None and not is_here(name):
                raise _Unknown(f"the judge {name} is not on this machine yet")
            self._judges[spec, f"{kind} {duel}"] = load(spec, judged_model=kind)
        return self._judges[spec, f"{kind} {duel}"]

    def tasks(self, part: SuitePart) -> Tasks:
        """Return a suite's tasks with their items.

        Raises:
            MipoEvalError: they are not there.
        """
        limit = self._grid.evaluation.limit

        def read() -> Tasks:
            found = suite_items(suite_of(self._grid, part), settings.data_dir(), limit)
            return [(task, list(items)) for task, items in found]

        return self._once(part.suite, read)

    def training_items(self, row: GridEntry) -> int:
        """Return how many items a row learns from.

        Raises:
            MipoEvalError: they are not there.
        """
        return self._once(f"train {row.name}", lambda: self._work.items(row))

    def _once(self, name: str, read: Callable[[], Found]) -> Found:
        """Read items, unless that was tried before: the hub may take minutes to be absent."""
        if name not in self._items:
            try:
                self._items[name] = read()
            except MipoEvalError as error:
                self._items[name] = error
        found = self._items[name]
        if isinstance(found, MipoEvalError):
            raise found
        return found  # type: ignore[no-any-return]

    def list_key(self, part: SuitePart) -> str:
        """Return the key of a suite's items."""
        return key_of_list((task, item.key) for task, items in self.tasks(part) for item in items)


def _is_done(training: Training) -> bool:
    """Whether a training's checkpoint is there; that of a value of a sweep is not yet chosen."""
    folder = Path(training.checkpoint or "")
    chosen = folder.parent.name != SWEEP_FOLDER
    return training.status == "done" and chosen and is_complete(folder)


def _unfinished(known: Sequence[Training]) -> State:
    """Return why a training has no checkpoint."""
    if failed := next((one for one in known if one.status == "failed"), None):
        return State("failed", failed.reason or "")
    return State("to do", _UNFINISHED[known[0].status] if known else "")


def _failed(reasons: Mapping[str, int]) -> int:
    return sum(n for why, n in reasons.items() if CALL_FAILED in why)
