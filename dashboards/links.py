"""Addresses of views: what a choice is called in them."""

from urllib.parse import urlencode

from mipo_eval.dashboards import markup
from mipo_eval.records import Run
from mipo_eval.reports.names import model_label

FIRST = "leaderboard"
"""The page that the board's own address shows; it has no other."""

TASK = "of-task"
"""Choice of the page of pairs: only items of this task."""


def run_name(run: Run) -> str:
    """Return what a run is called in options and addresses: the same wherever it stands."""
    parts = [model_label(run.model), run.prompting, run.suite]
    parts += [f"seed {run.seed}" if run.seed else "", run.run_id[:8]]
    return markup.label(" \u00b7 ".join(part for part in parts if part))


def address(page: str, **parameters: str | int | None) -> str:
    """Return a relative link to a view; absent parameters are left out."""
    given = {name: str(value) for name, value in parameters.items() if value is not None}
    path = "./" if page == FIRST else page
    return f"{path}?{urlencode(given)}" if given else path
