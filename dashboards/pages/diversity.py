"""How alike the responses of a model are (the paper's Tables 3 and 4)."""

from mipo_eval.dashboards import frame


def show() -> None:
    """Draw the page."""
    frame.begin("Diversity", "How alike a model's responses are.")
    frame.nothing_yet("run `mipo-eval demo`")
