"""Two responses side by side, with every verdict."""

from mipo_eval.dashboards import frame


def show() -> None:
    """Draw the page."""
    frame.begin("Pairs", "Responses and verdicts behind the numbers.")
    frame.nothing_yet("run `mipo-eval demo`")
