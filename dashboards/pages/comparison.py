"""Methods against each other."""

from mipo_eval.dashboards import frame


def show() -> None:
    """Draw the page."""
    frame.begin("Comparison", "Paired differences on common items.")
    frame.nothing_yet("run `mipo-eval demo`")
