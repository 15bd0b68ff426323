"""From the raw data sets of the paper to item files: `mipo-eval data prepare ca|prism|mb`.

`raw` reads the published rows, `split` keeps users apart, `extract` has a model write preferences,
`report` says what came out, `run` puts them together.
"""

from mipo_eval.tasks.preparation.plan import PAPER_SIZES, Models, Preparation
from mipo_eval.tasks.preparation.raw import UserChoice, Dropped, Instruction
from mipo_eval.tasks.preparation.run import Prepared, prepare
from mipo_eval.tasks.preparation.sources import RAW_SETS, raw_rows

__all__ = [
    "PAPER_SIZES",
    "RAW_SETS",
    "UserChoice",
    "Dropped",
    "Instruction",
    "Models",
    "Preparation",
    "Prepared",
    "prepare",
    "raw_rows",
]
