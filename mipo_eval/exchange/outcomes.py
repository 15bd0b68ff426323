"""From imported choices and grades to scores."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from mipo_eval import __version__
from mipo_eval.exchange.records import Entry, JudgeRecord
from mipo_eval.keys import digest
from mipo_eval.metrics import mean_score, outcome_rates, outcome_summary, rate_score
from mipo_eval.records import Score
from mipo_eval.signature import join, short
from mipo_eval.store.verdicts import Grade
from mipo_eval.verdict import NOT_JUDGED, Choice, Pair, PairVerdict, from_choices


def in_signature(name: str) -> str:
    """Return a foreign name as a signature can hold it."""
    return " ".join(name.replace("|", "/").split())


def item_verdicts(
    entries: Sequence[Entry], choices: Sequence[Choice], judge_key: str
) -> list[PairVerdict]:
    """Return per entry how its text fared against what the judge compared it with."""
    made: dict[tuple[str, str], list[Choice]] = {}
    for choice in choices:
        if choice.judge_key == judge_key:
            made.setdefault((choice.item_key, choice.text_key_a), []).append(choice)
    found = []
    for entry in entries:
        own = made.get((entry.item.key, entry.text_key), [])
        other = own[0].text_key_b if own else ""
        found.append(from_choices(Pair(entry.item.key, entry.text_key, other), own, "as made"))
    return found


def choice_scores(
    entries: Sequence[Entry], choices: Sequence[Choice], judge: JudgeRecord
) -> list[Score]:
    """Return win rates by one judge over all entries; empty when it chose nowhere.

    Of judges that tell probabilities, `win_rate` is their mean, with its standard error; the
    other rates count winners.
    """
    verdicts = item_verdicts(entries, choices, judge.key)
    values = [verdict.credit for verdict in verdicts]
    if all(value is None for value in values):
        return []
    reasons = [verdict.reason for verdict in verdicts]
    groups = [entry.item.group for entry in entries]
    in_percent = [None if value is None else 100 * value for value in values]
    found = list(outcome_rates(values, groups=groups, reasons=reasons))
    made = [choice for choice in choices if choice.judge_key == judge.key]
    if any(choice.preference is not None for choice in made):
        mean = mean_score("win_rate", in_percent, groups=groups, reasons=reasons)
        error = outcome_summary(values, groups=groups).standard_error
        found.insert(0, mean)
        if error is not None:
            found.append(replace(mean, metric="win_rate_standard_error", value=error, ci95=None))
    both = any(choice.shown_first == "b" for choice in made)
    return [
        replace(score, signature=orders.followed_by(score.signature))
        for score in found
        for orders in (join(orders="both-agree" if both else "one"),)
    ]


def grade_scores(
    entries: Sequence[Entry],
    grades: Sequence[Grade],
    judge: JudgeRecord,
    *,
    metric: str,
    scale: str,
) -> list[Score]:
    """Return the mean grade by one judge per task, and over all tasks when there are several."""
    given = {(g.item_key, g.text_key): g for g in grades if g.judge_key == judge.key}
    tasks = list(dict.fromkeys(entry.task for entry in entries))
    scores = []
    for task in [*tasks, None] if len(tasks) > 1 else tasks:
        of_task = [entry for entry in entries if task in {entry.task, None}]
        found = [given.get((entry.item.key, entry.text_key)) for entry in of_task]
        values = [grade.value if grade else None for grade in found]
        if all(value is None for value in values):
            continue
        make: Callable[..., Score] = rate_score if scale == "0-100" else mean_score
        score = make(
            metric,
            values,
            signature=join(scale=scale),
            groups=[entry.item.group for entry in of_task],
            reasons=[(grade.reason if grade else None) or NOT_JUDGED for grade in found],
        )
        scores.append(replace(score, task=task or "average"))
    return scores


def signed(
    scores: Sequence[Score],
    *,
    source: str,
    suite: str,
    entries: Sequence[Entry],
    judge: JudgeRecord | None = None,
    task: str | None = None,
) -> list[Score]:
    """Return the scores with their whole signature: suite, items, source, judge, rules."""
    context = join(
        suite=in_signature(suite),
        items=short(digest([entry.item.key for entry in entries])),
        source=source,
        judge=in_signature(judge.name) if judge else None,
        judge_key=short(judge.key) if judge else None,
    )
    version = join(version=__version__)
    return [
        replace(
            score,
            task=task if task is not None else score.task,
            signature=context.followed_by(score.signature, version),
        )
        for score in scores
    ]
