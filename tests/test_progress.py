"""A job of several stages says how long all of it takes, and what is not known of that."""

from collections.abc import Callable

import pytest

from mipo_eval import progress
from mipo_eval.progress import Planned, Steps


class _Shown:
    """Keeps what a stage is called and says."""

    what = ""
    status: Callable[[], str] = str

    def start(self, what: str, total: int, status: Callable[[], str] = str) -> None:
        self.what, self.status = what, status

    def advance(self, units: int) -> None: ...

    def finish(self) -> None: ...

    def warn(self, text: str) -> None: ...


def test_each_step_tells_what_is_left_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    shown = _Shown()
    steps = Steps(shown)
    steps.plan(
        [Planned("model", 10, None), Planned("judge", 20, 300.0), Planned("judge", 20, None)]
    )
    steps.start("responses", 30)
    steps.advance(20)  # what is stored already tells nothing of the time
    assert shown.what == "Step 1 of 3: responses"
    assert shown.status() == "about 5 min left in all and 2 steps of unknown time"
    now = 100.0
    steps.advance(5)
    assert shown.status() == "about 7 min left in all and 1 step of unknown time"
    now = 200.0
    steps.advance(5)
    steps.finish()
    steps.start("ratings", 20, lambda: "$0.40")
    now = 240.0
    steps.advance(2)  # 20 s each: slower than was thought; the last step is known by that, too
    assert shown.what == "Step 2 of 3: ratings"
    assert shown.status() == "about 13 min left in all  $0.40"


def test_nothing_is_claimed_before_anything_is_known() -> None:
    shown = _Shown()
    steps = Steps(shown)
    steps.plan([Planned("model", 10, None), Planned("judge", 20, None)])
    steps.start("responses", 10)
    assert shown.status() == "time left not known yet"
    steps.advance(10)
    assert shown.status() == "1 step of unknown time left"  # not of this step, which is done


def test_one_step_is_not_numbered() -> None:
    shown = _Shown()
    Steps(shown).start("ratings", 5)
    assert shown.what == "ratings"
