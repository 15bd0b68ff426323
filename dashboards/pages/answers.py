"""Multiple choice and math (the paper's Table 2, Figures 4 and 5)."""

from mipo_eval.dashboards import frame


def show() -> None:
    """Draw the page."""
    frame.begin("Choice and math", "Answers that can be checked.")
    frame.nothing_yet("run `mipo-eval --model CKPT --suite mcq`")
