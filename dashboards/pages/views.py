"""Choosing a leaderboard: suite, judge, number and rule for ties, for the pages that need one."""

from collections.abc import Sequence

import streamlit as st

from mipo_eval.dashboards import frame, looks
from mipo_eval.dashboards.methods import Topic, View
from mipo_eval.evaluation.outcomes import DERIVED
from mipo_eval.metrics.win_rate import METRIC_NAMES
from mipo_eval.reports.labels import LABELS

WIN_RATE = "win rate (%)"
TIES = {
    "win_rate_tie_inclusive": "a win (paper)",
    "win_rate_half_ties": "half",
    "win_rate_strict": "a loss",
    "win_rate_excluding_ties": "left out",
    "net_win_rate": "wins \u2212 losses",
}
"""Metric to what a tie counts as under it."""
NO_JUDGE = "without a judge"


def choose_view(known: Sequence[Topic]) -> View:
    """Let the reader choose suite, judge, number and rule for ties."""
    suites = list(dict.fromkeys(topic.suite for topic in known))
    first, second, third = st.columns(3)
    with first:
        suite = frame.choose("Suite", suites, "suite")
    of_suite = [topic for topic in known if topic.suite == suite]
    with second:
        topic = frame.choose("Judge", of_suite, "judge", show=judge_name)
    with third:
        metric = frame.choose("Number", number_names(topic), "metric", show=looks.metric_title)
    if metric == WIN_RATE:
        metric = frame.switch("A tie with the reference is", _rules(topic), "ties")
    return View(
        suite=suite,
        judge=topic.judge.key if topic.judge else None,
        metric=metric,
        rules=frame.row_rules(),
    )


def first_views(known: Sequence[Topic]) -> list[View]:
    """Return what `choose_view` chooses while nobody has chosen, then with the other rules."""
    topic = known[0]
    metric = number_names(topic)[0]
    return [
        View(
            suite=topic.suite,
            judge=topic.judge.key if topic.judge else None,
            metric=one,
            rules=frame.row_rules(),
        )
        for one in (_rules(topic) if metric == WIN_RATE else [metric])
    ]


def _rules(topic: Topic) -> dict[str, str]:
    """Return the rules for ties whose win rate is stored, or follows from one that is."""
    derived = DERIVED if METRIC_NAMES["win"] in topic.metrics else ()
    return {rule: told for rule, told in TIES.items() if rule in {*topic.metrics, *derived}}


def judge_name(topic: Topic) -> str:
    """Return what the judge of a topic is called in options and addresses."""
    return topic.judge.label if topic.judge else NO_JUDGE


def number_names(topic: Topic) -> list[str]:
    """Return the numbers of a topic, the usual ones first; win rates are one, ruled by ties."""
    rates = [name for name in topic.metrics if name in TIES]
    found = [WIN_RATE] * bool(rates) + [name for name in topic.metrics if name not in TIES]
    usual = [WIN_RATE, "accuracy", *LABELS]
    return sorted(found, key=lambda name: usual.index(name) if name in usual else len(usual))
