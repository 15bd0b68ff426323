"""Everything about one run."""

from mipo_eval.dashboards import frame


def show() -> None:
    """Draw the page."""
    frame.begin("Run", "Everything about one run.")
    frame.nothing_yet("run `mipo-eval demo`")
