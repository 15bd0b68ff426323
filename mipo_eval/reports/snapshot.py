"""A store as it is now, read part by part and once: for many tables of the same store."""

from functools import cached_property

from mipo_eval.evaluation.outcomes import DERIVED, Outcomes
from mipo_eval.evaluation.score import Numbers
from mipo_eval.metrics.win_rate import METRIC_NAMES
from mipo_eval.records import Score
from mipo_eval.reports.names import stored_scores
from mipo_eval.store import Store
from mipo_eval.store.judges import StoredJudge, list_judges
from mipo_eval.store.runs import Run
from mipo_eval.store.trainings import Training, list_trainings


class Snapshot:
    """What reports need of a store. What was read stays as it was; a new look is a new object.

    The first leaderboard reads the verdicts it shows, the next one with another judge, rule for
    ties or metric only what is new to it. A board keeps one as long as the store does not change.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.outcomes = Outcomes(store)
        self.numbers = Numbers(store, self.outcomes)

    @cached_property
    def scores(self) -> list[tuple[Run, Score]]:
        """Every score of a model with its run, oldest run first."""
        return [(run, score) for run, score in self._every if score.control is None]

    @cached_property
    def controls(self) -> list[tuple[Run, Score]]:
        """The same of control entrants."""
        return [(run, score) for run, score in self._every if score.control is not None]

    @cached_property
    def _every(self) -> list[tuple[Run, Score]]:
        return stored_scores(self.store, controls=True)

    @cached_property
    def judges(self) -> list[StoredJudge]:
        """Every judge, by name and key."""
        return list_judges(self.store)

    @cached_property
    def trainings(self) -> list[Training]:
        """Every training, the latest first."""
        return list_trainings(self.store)

    @property
    def metrics(self) -> list[str]:
        """Metrics a leaderboard can show, by name."""
        stored = {score.metric for _, score in self.scores}
        derived = set(DERIVED) if METRIC_NAMES["win"] in stored else set()
        return sorted(stored | derived)
