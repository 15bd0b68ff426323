"""A place of a table of the paper: what stands in it, and what the tables are over."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from mipo_eval.reports.others import JUDGE_ACCURACY
from mipo_eval.reports.paper import ACCURACY, BLEU, CHECKED, JUDGED, TASKS, WIN, Published, Table
from mipo_eval.signature import Signature

DATASETS: Mapping[Table, tuple[str, ...]] = {
    1: JUDGED,
    2: CHECKED,
    3: JUDGED,
    4: JUDGED,
    5: (*JUDGED, *CHECKED),
    6: ("MB",),
    7: JUDGED[:2],
    "results": tuple(TASKS),
}
"""What a table is over."""
METRICS: Mapping[Table, tuple[str, ...]] = {
    1: (WIN,),
    2: (ACCURACY,),
    3: (BLEU,),
    4: (BLEU,),
    5: (WIN, ACCURACY),
    6: (WIN,),
    7: (JUDGE_ACCURACY,),
    "results": (WIN, ACCURACY),
}
SIZES = {
    "CA": 200,
    "PRISM": 194,
    "MB": 84,
    "GSM8K": 200,
    "SVAMP": 300,
    "ARC-Easy": 500,
    "ARC-Challenge": 500,
}
"""Items the paper evaluates on."""


class Warned(NamedTuple):
    """A warning about a number: what is said once of all it holds for, and what of each."""

    what: str
    each: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperEntry:
    """One place of a table: a printed number, the store's own, or both."""

    model: str
    method: str
    dataset: str
    published: Published | None = None
    """None where nobody printed a number for this place."""
    measured: float | None = None
    std: float | None = None
    n: int | None = None
    seeds: int | None = None
    absent: str | None = None
    """Why there is no measured value; None when there is one."""
    best_of: str | None = None
    """"best of k (variant), corrected x" where the measured value was chosen among k."""
    tie_rate: float | None = None
    level: float | None = None
    """What it is ranked by; None where it is not ranked."""
    letters: str = ""
    """Numbers of a column that share one are not told apart."""
    judge: str | None = None
    signature: Signature | None = None
    warned: tuple[Warned, ...] = ()
    """Why it must not be read beside the printed one."""

    @property
    def difference(self) -> float | None:
        """Measured minus published."""
        if self.measured is None or self.published is None:
            return None
        return self.measured - self.published.value


def entry_json(entry: PaperEntry) -> dict[str, Any]:
    """Return an entry as `--json` shows it."""
    number = entry.published
    return {
        "model": entry.model,
        "method": entry.method,
        "dataset": entry.dataset,
        "published": number and number.value,
        "published_std": number and number.std,
        "source": number and number.source,
        "measured": entry.measured,
        "measured_std": entry.std,
        "difference": entry.difference,
        "n": entry.n,
        "seeds": entry.seeds,
        "tie_rate": entry.tie_rate,
        "letters": entry.letters,
        "best_of": entry.best_of,
        "judge": entry.judge,
        "signature": entry.signature,
        "warnings": [f"{what}: {each}" if each else what for what, each in entry.warned],
        "absent": entry.absent,
    }
