"""What the store is told while a training goes on: that it is alive, and its learning curve."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mipo_eval.progress import Progress, Told
from mipo_eval.store.engine import Store
from mipo_eval.store.trainings import CurvePoint, put_curve, touch_training
from mipo_eval.training.trainer import is_main_process

_TOUCH_SECONDS = 60.0
"""A training at work says so this often: one that was killed cannot say that it is not."""


class Watch:
    """Progress that the store is told of, and the learning curve, stored as it comes."""

    def __init__(self, store: Store, training_id: str, progress: Progress) -> None:
        self._store, self._id, self._progress = store, training_id, progress
        self._touched = time.monotonic()
        self._step = self._steps = 0

        self.start, self.finish, self.warn = progress.start, progress.finish, progress.warn

    def advance(self, units: int) -> None:
        """Hand on how much more is done, and say now and then that it goes on."""
        self._progress.advance(units)
        if is_main_process() and time.monotonic() - self._touched >= _TOUCH_SECONDS:
            touch_training(self._store, self._id)
            self._touched = time.monotonic()

    @contextmanager
    def training(self, steps: int) -> Iterator[None]:
        """Show how many of the steps are done."""
        self._steps = steps
        if is_main_process():
            self.start("training", steps)
        try:
            yield
        finally:
            if is_main_process():
                self.finish()

    @contextmanager
    def stage(self, what: str, total: int) -> Iterator[Told]:
        """Show what is read before the first step, or after the last; see `progress.shown`."""
        if not is_main_process():
            yield lambda _: None
            return
        self.finish()
        self.start(what, total)
        yield self.advance
        if self._step < self._steps:
            self.finish()
            self.start("training", self._steps)

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Store what was measured at a step; see `data.StepReport`.

        At once: a training that is killed goes on from its last checkpoint, which may be of this
        very step.
        """
        if not is_main_process():
            return
        points = [CurvePoint(name, step, value) for name, value in metrics.items()]
        put_curve(self._store, self._id, points)
        reached = min(step, self._steps)
        if reached > self._step:
            self.advance(reached - self._step)
            self._step = reached
