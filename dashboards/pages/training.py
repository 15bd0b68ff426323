"""Learning curves, ablations and pair reports (the paper's Figure 2, Tables 5 and 6)."""

from mipo_eval.dashboards import frame


def show() -> None:
    """Draw the page."""
    frame.begin("Training", "What was trained, and how it went.")
    frame.nothing_yet("run `mipo-eval train mipo`")
