"""What to be warned of before a number is believed: its judge, and controls that do well."""

from mipo_eval.evaluation.controls import winners
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.records import Run, Score
from mipo_eval.reports.names import model_label
from mipo_eval.signature import short
from mipo_eval.store.judges import failing_judges, judge_names, largest_validations


def failings(now: Snapshot, judge: str | None) -> list[str]:
    """Return why the judge with this key must not be believed; None looks at every judge."""
    names = judge_names(now.store)
    return [
        f"{names.get(key, short(key))}: {reason}"
        for key, reasons in failing_judges(now.store).items()
        if judge in {None, key}
        for reason in reasons
    ]


def reasons(now: Snapshot, judge: str) -> tuple[str, ...]:
    """Return why the judge with this key must not be believed; nothing where it may be."""
    return failing_judges(now.store).get(judge, ())


def validation(now: Snapshot, judge: str) -> str:
    """Return how the judge with this key did against people, as few words say it."""
    if reasons(now, judge):
        return "fails"
    own = [one.data for one in largest_validations(now.store) if one.judge_key == judge]
    if own:
        return f"passes on {', '.join(own)}"
    asked = [one.spec.get("backend") or {} for one in now.judges if one.key == judge]
    rules = any(backend.get("backend") == "checker" for backend in asked)
    return "not needed: exact rules" if rules else "not done: mipo-eval validate"


def winning_controls(now: Snapshot, suite: str, judge: str | None) -> list[str]:
    """Return a line for each control entrant that does as well as a model of this suite."""
    by = short(judge) if judge else None
    scores: dict[str, tuple[Run, list[Score]]] = {}
    for run, score in (*now.scores, *now.controls):
        if run.suite == suite and score.judge_key == by:
            current = now.numbers.current(run, score)
            scores.setdefault(run.run_id, (run, []))[1].append(current)
    return [
        f"{model_label(run.model)} ({run.run_id[:8]}): {winner}"
        for run, own in scores.values()
        for winner in winners(own)
    ]
