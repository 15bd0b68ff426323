"""From stored responses and ratings to scores; each suite's form has its own."""

from collections import Counter
from collections.abc import Sequence

from mipo_eval.judges.judging import EMPTY, Judged, rubric_scores
from mipo_eval.metrics import mean_score, rate_score, self_bleu_score
from mipo_eval.metrics.calibration import ChoiceOutcome, calibration_scores, choice_outcome
from mipo_eval.metrics.diversity import FIXED_SIZE, diversity_scores, same_prompt_scores
from mipo_eval.records import Score, text_key
from mipo_eval.signature import Signature, join
from mipo_eval.stats import Crossed
from mipo_eval.store.responses import Answered, Scorable
from mipo_eval.tasks.answers import LETTERS, grade
from mipo_eval.verdict import Total

Totals = dict[tuple[str, str], Total]


def why_no_text(row: Scorable) -> str | None:
    """Return why an item has no response that says something; None when it has one."""
    if row.text is None:
        return row.reason or "no response"
    return None if row.text else EMPTY


def _clusters(rows: Sequence[Scorable]) -> list[Crossed]:
    """Return what each item shares with others: its prompt, and its user where it has one."""
    return [Crossed(row.group, row.user_id) for row in rows]


def response_scores(rows: Sequence[Scorable], *, seed: int) -> list[Score]:
    """Return what needs no judge: diversity, length, and how much was cut off."""
    texts = [row.text or None for row in rows]
    reasons = [why_no_text(row) for row in rows]
    groups = _clusters(rows)
    scores = []
    n_texts = sum(text is not None for text in texts)
    if n_texts >= 2:
        scores.append(self_bleu_score(texts, groups=groups, seed=seed, reasons=reasons))
    if n_texts >= FIXED_SIZE:
        scores += diversity_scores(texts, seed=seed, reasons=reasons)
    scores += same_prompt_scores(texts, groups, seed=seed, reasons=reasons)
    return scores + ending_scores(rows, seed=seed)


def ending_scores(rows: Sequence[Scorable], *, seed: int) -> list[Score]:
    """Return how long responses are, and how many were cut off, where the model type tells."""
    told: dict[str, list[float | None]] = {
        "response_tokens": [row.response_tokens for row in rows],
        "truncation_rate": [
            None if row.finish_reason is None else 100.0 * (row.finish_reason == "length")
            for row in rows
        ],
    }
    scores = []
    for metric, values in told.items():
        known = [value if row.text else None for value, row in zip(values, rows, strict=True)]
        if any(value is not None for value in known):
            make = rate_score if metric == "truncation_rate" else mean_score
            score = make(
                metric,
                known,
                groups=_clusters(rows),
                seed=seed,
                reasons=[why_no_text(row) or "the model type does not tell" for row in rows],
            )
            scores.append(score)
    return scores


def judged_scores(rows: Sequence[Scorable], ratings: Totals, *, seed: int) -> list[Score]:
    """Return win rates, tie rate and mean rating by one judge."""
    return rubric_scores(judged_items(rows), ratings, seed=seed)


def judged_items(rows: Sequence[Scorable]) -> list[Judged]:
    """Return what scoring needs of the responses that a judge rates."""
    return [_judged(row, row.text_key if row.text else None, why_no_text(row)) for row in rows]


def control_scores(
    rows: Sequence[Scorable], texts: Sequence[str | None], ratings: Totals, *, seed: int
) -> list[Score]:
    """Return what `judged_scores` does, of a control entrant's texts in place of the responses."""
    judged = [
        _judged(row, None if text is None else text_key(text), "the control has no text here")
        for row, text in zip(rows, texts, strict=True)
    ]
    return rubric_scores(judged, ratings, seed=seed)


def _judged(row: Scorable, key: str | None, reason: str | None) -> Judged:
    group = Crossed(row.group, row.user_id)
    return Judged(row.item_key, group, row.n_preferences, key, reason, row.reference_key)


def answer_scores(entries: Sequence[Answered], *, seed: int) -> list[Score]:
    """Return accuracy and the rate of replies without a readable answer, 0-100.

    A reply without a readable answer is not right (as in the paper), and its rate stands beside
    the accuracy; an item without any reply is unscored. A task without any has an accuracy
    without a value, so that its reasons are shown.
    """
    replies = [entry.response.text if entry.response else None for entry in entries]
    grades = [
        None if reply is None else grade(entry.item, reply)
        for entry, reply in zip(entries, replies, strict=True)
    ]
    reasons = _why_no_reply(entries)
    if all(found is None for found in grades):
        return [_nothing(reasons, join(extraction="last-answer"))]
    return [
        rate_score(
            metric,
            [None if found is None else 100.0 * (found == wanted) for found in grades],
            signature=join(extraction="last-answer"),
            groups=[entry.item.group for entry in entries],
            seed=seed,
            reasons=reasons,
        )
        for metric, wanted in (("accuracy", "right"), ("unextracted_rate", "unextracted"))
    ]


def _why_no_reply(entries: Sequence[Answered]) -> list[str]:
    return [
        (entry.response.reason if entry.response else None) or "not generated" for entry in entries
    ]


def _nothing(reasons: Sequence[str], signature: Signature) -> Score:
    """Return the accuracy of a task of which not one item has a reply."""
    counted = dict(Counter(reasons).most_common())
    return Score(metric="accuracy", value=None, n=0, unscored_reasons=counted, signature=signature)


def likelihood_scores(entries: Sequence[Answered], *, choices: str, seed: int) -> list[Score]:
    """Return accuracy, answer entropies and calibration from the choices' log-probabilities."""
    outcomes = [_outcome(entry) for entry in entries]
    if not any(outcomes):
        return [_nothing(_why_no_reply(entries), join(choices=choices))]
    groups = [entry.item.group for entry in entries]
    return calibration_scores(outcomes, choices=choices, groups=groups, seed=seed)


def _outcome(entry: Answered) -> ChoiceOutcome | None:
    if entry.response is None or entry.response.choice_logprobs is None:
        return None
    gold = LETTERS.index(entry.item.reference or "")
    return choice_outcome(entry.response.choice_logprobs, gold)
