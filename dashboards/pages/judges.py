"""Whether a judge can be believed (the paper's Table 7)."""

from mipo_eval.dashboards import frame


def show() -> None:
    """Draw the page."""
    frame.begin("Judges", "Whether a judge can be believed.")
    frame.nothing_yet("run `mipo-eval validate checker`")
