"""Statistics: pure functions for intervals, paired tests, ranking, power and selection.

Values are tables of (items, runs) with NaN for what is absent; `groups` names each item's cluster:
a label, or `Crossed(prompt, user)`. What an option or a unit means stands with each function.
"""

from mipo_eval.stats.bootstrap import Crossed
from mipo_eval.stats.estimates import design_effect, estimates
from mipo_eval.stats.intervals import mean_intervals, proportion_interval, rate_intervals
from mipo_eval.stats.length import LengthControlled, length_controlled
from mipo_eval.stats.paired import Comparison, compare, compare_all
from mipo_eval.stats.power import Design, paired_correlation, rate_sd
from mipo_eval.stats.ranking import BestOf, best_of, rank_runs
from mipo_eval.stats.seeds import SeedSummary, seed_summaries
from mipo_eval.stats.significance import adjust
from mipo_eval.stats.strengths import Game, Strength, bradley_terry

__all__ = [
    "BestOf",
    "Comparison",
    "Crossed",
    "Design",
    "Game",
    "LengthControlled",
    "SeedSummary",
    "Strength",
    "adjust",
    "best_of",
    "bradley_terry",
    "compare",
    "compare_all",
    "design_effect",
    "estimates",
    "length_controlled",
    "mean_intervals",
    "paired_correlation",
    "proportion_interval",
    "rank_runs",
    "rate_intervals",
    "rate_sd",
    "seed_summaries",
]
