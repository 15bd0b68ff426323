"""What is to be prepared, and by whom."""

from dataclasses import dataclass

from mipo_eval.errors import ConfigError
from mipo_eval.models.base import Backend
from mipo_eval.store.engine import Store
from mipo_eval.tasks.preparation.raw import DIMENSIONS

PAPER_SIZES = {"ca": (6_564, 200), "prism": (7_294, 194), "mb": (3_600, 84)}
"""Training and test items of the paper (PAPER.md, "Data")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be prepared."""

    name: str
    source: str
    """Where the rows come from; opens messages and stands in the report."""
    n_train: int
    n_test: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name not in PAPER_SIZES:
            raise ConfigError(f"cannot prepare {self.name!r}; known: {', '.join(PAPER_SIZES)}")
        step = len(DIMENSIONS) if self.name == "mb" else 1
        if min(self.n_train, self.n_test) < step or self.n_train % step or self.n_test % step:
            raise ConfigError(
                f"{self.name}: {self.n_train} training and {self.n_test} test items are asked for; "
                + (f"both must be multiples of {step}" if step > 1 else "both must be at least 1")
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Who is asked, and where the answers are kept."""

    store: Store
    extractor: Backend
    reference: Backend | None = None
    """Writes Multifaceted-Bench's reference responses; None keeps the published ones, which
    follow all four preferences of an instruction at once."""
