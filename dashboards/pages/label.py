"""Blind annotation by people."""

from mipo_eval.dashboards import frame


def show() -> None:
    """Draw the page."""
    frame.begin("Label", "Judge pairs yourself, blind.")
    frame.nothing_yet("run `mipo-eval demo`")
