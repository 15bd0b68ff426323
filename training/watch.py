"""What the store is told while a training goes on: that it is alive, and its learning curve."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mipo_eval.progress import Progress
from mipo_eval.store.engine import Store
from mipo_eval.store.trainings import CurvePoint, put_curve, touch_training
from mipo_eval.training.trainer import is_main_process

_FLUSH_SECONDS = 2.0
"""How long points of a curve may wait to be stored."""
_TOUCH_SECONDS = 60.0
"""A training at work says so this often: one that was killed cannot say that it is not."""


class Watch:
    """Progress that the store is told of, and the learning curve, stored as it comes."""

    def __init__(self, store: Store, training_id: str, progress: Progress) -> None:
        self._store, self._id, self._progress = store, training_id, progress
        self._waiting: list[CurvePoint] = []
        self._touched = self._stored = time.monotonic()
        self._step = self._steps = 0

        self.start, self.finish = progress.start, progress.finish

    def advance(self, units: int) -> None:
        """Hand on how much more is done, and say now and then that it goes on."""
        self._progress.advance(units)
        if is_main_process() and time.monotonic() - self._touched >= _TOUCH_SECONDS:
            touch_training(self._store, self._id)
            self._touched = time.monotonic()

    @contextmanager
    def training(self, steps: int) -> Iterator[None]:
        """Show how many of the steps are done; every point of the curve is stored at the end."""
        self._steps = steps
        if is_main_process():
            self.start("training", steps)
        try:
            yield
        finally:
            if is_main_process():
                self._flush()
                self.finish()

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take what was measured at a step; see `data.StepReport`."""
        if not is_main_process():
            return
        self._waiting += [CurvePoint(name, step, value) for name, value in metrics.items()]
        reached = min(step, self._steps)
        if reached > self._step:
            self.advance(reached - self._step)
            self._step = reached
        if time.monotonic() - self._stored >= _FLUSH_SECONDS:
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            put_curve(self._store, self._id, waiting)
        self._stored = time.monotonic()
