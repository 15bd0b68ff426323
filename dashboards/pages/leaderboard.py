"""Methods by data sets, as in the paper's Table 1."""

from mipo_eval.dashboards import frame


def show() -> None:
    """Draw the page."""
    frame.begin("Leaderboard", "Methods by data sets.")
    frame.nothing_yet("run `mipo-eval demo`")
