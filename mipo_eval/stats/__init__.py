"""Statistics: pure functions for intervals, paired tests, ranking, power and selection.

Values are tables of (items, runs) with NaN for what is absent; `groups` names each item's cluster
(prompt group or user). What an option or a unit means stands with each function.
"""

from mipo_eval.stats.bootstrap import (
    Crossed,
    design_effect,
    mean_interval,
    mean_intervals,
    percentile_interval,
    standard_error,
    two_way_variance,
)
from mipo_eval.stats.intervals import (
    bca_interval,
    constant_rate_interval,
    proportion_interval,
    table_intervals,
    two_way_interval,
    two_way_intervals,
)
from mipo_eval.stats.length import (
    LengthBin,
    LengthControlled,
    item_difficulty,
    length_controlled,
    length_profile,
)
from mipo_eval.stats.paired import (
    Comparison,
    adjust,
    align,
    compare,
    compare_all,
    permutation_test,
    sign_test,
    told_apart,
)
from mipo_eval.stats.power import Design, detectable_difference, paired_correlation, rate_sd
from mipo_eval.stats.ranking import (
    BestOf,
    Rank,
    WinMatrix,
    best_of,
    letter_display,
    rank_runs,
    win_matrix,
)
from mipo_eval.stats.seeds import (
    SeedDifference,
    SeedSummary,
    seed_difference,
    seed_summaries,
)
from mipo_eval.stats.strengths import Strength, bradley_terry

__all__ = [
    "BestOf",
    "Comparison",
    "Crossed",
    "Design",
    "LengthBin",
    "LengthControlled",
    "Rank",
    "SeedDifference",
    "SeedSummary",
    "Strength",
    "WinMatrix",
    "adjust",
    "align",
    "bca_interval",
    "best_of",
    "bradley_terry",
    "compare",
    "compare_all",
    "constant_rate_interval",
    "design_effect",
    "detectable_difference",
    "item_difficulty",
    "length_controlled",
    "length_profile",
    "letter_display",
    "mean_interval",
    "mean_intervals",
    "paired_correlation",
    "percentile_interval",
    "permutation_test",
    "proportion_interval",
    "rank_runs",
    "rate_sd",
    "seed_difference",
    "seed_summaries",
    "sign_test",
    "standard_error",
    "table_intervals",
    "told_apart",
    "two_way_interval",
    "two_way_intervals",
    "two_way_variance",
    "win_matrix",
]
