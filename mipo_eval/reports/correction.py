"""Win rates corrected for a judge's errors, with human labels on some of the items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mipo_eval.errors import DataError
from mipo_eval.judges.correction import Corrected, prediction_powered, rogan_gladen
from mipo_eval.judges.labelled import majority, read_pairs
from mipo_eval.judges.people import labels_of
from mipo_eval.metrics.agreement import agreement
from mipo_eval.metrics.win_rate import METRIC_NAMES, outcome_rates
from mipo_eval.records import Run, Score, Values, text_key
from mipo_eval.signature import join, short
from mipo_eval.stats.bootstrap import Crossed
from mipo_eval.stats.bootstrap import Labels as Clustering
from mipo_eval.store.engine import Store
from mipo_eval.store.items import get_items
from mipo_eval.store.judges import StoredJudge, find_people
from mipo_eval.store.responses import paired_texts
from mipo_eval.store.verdicts import verdicts_on
from mipo_eval.verdict import CREDIT, Pair, PairVerdict, Verdict, exchanged

ASSUMED = {
    "prediction_powered": "the labelled items are a random sample of all; the judge may err in any "
    "way",
    "rogan_gladen": "the judge errs as often on the items without labels as on those with; ties "
    "are left out",
}
"""What each correction rests on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """A judge's win rate beside what people's labels make of it; rates 0-100, a tie is half."""

    judge: StoredJudge
    judged: Score
    """By the judge alone, over all items it decided."""
    people: Score
    """By people alone, over the items they labelled."""
    labelled: int
    """Items with the word of both."""
    agreement: float
    """Share of these, 0-100, on which both say the same."""
    kappa: float | None
    prediction_powered: Corrected | None
    rogan_gladen: Corrected | None
    absent: Mapping[str, str]
    """Which correction cannot be made, and why."""


Labels = Mapping[Pair, Verdict]
"""What people say of pairs, each there both ways round."""


def store_labels(store: Store, people: Sequence[str]) -> Labels:
    """Return what people said in the store, by majority.

    Raises:
        ConfigError: nobody of that name has labelled anything.
    """
    found: dict[Pair, Verdict] = {}
    for pair, said in labels_of(store, find_people(store, people)).items():
        label = majority(said)
        if label is not None:
            found |= {pair: label, pair.turned(): exchanged(label)}
    return found


def file_labels(store: Store, run: Run, source: str) -> Labels:
    """Return the labels of a file of pairs that are about a run's items: the same prompts.

    Raises:
        DataError: the file cannot be read, or a line of it is wrong.
    """
    asked: dict[str, list[str]] = {}
    for _, item in get_items(store, run.list_key):
        asked.setdefault(item.transcript.strip(), []).append(item.key)
    found: dict[Pair, Verdict] = {}
    for labelled in read_pairs(source):
        for key in asked.get(labelled.prompt.strip(), ()):
            pair = Pair(key, text_key(labelled.first), text_key(labelled.second))
            found |= {pair: labelled.label, pair.turned(): exchanged(labelled.label)}
    return found


def correct(
    store: Store,
    run: Run,
    judge: StoredJudge,
    labels: Labels,
    *,
    other: Run | None = None,
) -> Correction:
    """Return a judge's win rate of a run, and the same corrected by labels.

    Args:
        store: where verdicts are.
        run: whose responses win or lose.
        judge: who judged them.
        labels: of people, for some of the items.
        other: the run they are compared with; None: the references.

    Raises:
        DataError: the judge said nothing of these pairs, or people nothing of what it judged.
    """
    verdicts = verdicts_on(store, paired_texts(store, run, other), judge.key)
    told = [labels.get(row.pair) if row.pair else None for row, _ in verdicts]
    both = _said_by_both(run, judge, [one for _, one in verdicts], told)
    by_judge = [one.credit for _, one in verdicts]
    by_people = [None if label is None else CREDIT[label] for label in told]
    groups = [Crossed(row.group, row.user_id) for row, _ in verdicts]
    made, absent = _corrections(by_judge, by_people, groups)
    signature = join(
        run=run.run_id[:12],
        against=other.run_id[:12] if other else "reference",
        judge=judge.name,
        judge_key=short(judge.key),
        ties="half",
    )

    def rate(metric: str, values: Values, reasons: Sequence[str | None]) -> Score:
        _, half, *_ = outcome_rates(values, groups=groups, reasons=reasons)
        return replace(half, metric=metric, signature=signature)

    agreed = agreement([a for a, _ in both], [b for _, b in both])
    return Correction(
        judge=judge,
        judged=rate(METRIC_NAMES["half"], by_judge, [one.reason for _, one in verdicts]),
        people=rate("win_rate_by_people", by_people, ["no label"] * len(told)),
        labelled=len(both),
        agreement=agreed.share or 0.0,
        kappa=agreed.kappa,
        prediction_powered=made.get("prediction_powered"),
        rogan_gladen=made.get("rogan_gladen"),
        absent=absent,
    )


def _said_by_both(
    run: Run,
    judge: StoredJudge,
    verdicts: Sequence[PairVerdict],
    told: Sequence[Verdict | None],
) -> list[tuple[Verdict, Verdict]]:
    """Return what the judge and people say of the items on which both say something.

    Raises:
        DataError: the judge says nothing at all, or people nothing of what it judged.
    """
    if not any(one.winner for one in verdicts):
        raise DataError(f"{judge.label} has not judged run {run.run_id[:12]}: judge it first")
    pairs = zip(verdicts, told, strict=True)
    both = [(one.winner, label) for one, label in pairs if one.winner and label]
    if not both:
        raise DataError(
            f"no label is about a pair that {judge.label} judged in run {run.run_id[:12]}: label "
            "some of its items on the board, or in a file with the same prompts and texts"
        )
    return both


def _corrections(
    judge: Values, people: Values, groups: Clustering
) -> tuple[dict[str, Corrected], dict[str, str]]:
    """Return the corrections that can be made, and why the others cannot."""
    made: dict[str, Corrected] = {}
    absent: dict[str, str] = {}
    for method in (prediction_powered, rogan_gladen):
        try:
            made[method.__name__] = method(judge, people, groups)
        except DataError as error:
            absent[method.__name__] = str(error)
    return made, absent


def correction_json(found: Correction) -> dict[str, Any]:
    """Return a correction as `--json` shows it."""
    made = {"prediction_powered": found.prediction_powered, "rogan_gladen": found.rogan_gladen}
    return {
        "judge": found.judge.label,
        "judged": found.judged.to_json(),
        "people": found.people.to_json(),
        "labelled": found.labelled,
        "agreement": found.agreement,
        "kappa": found.kappa,
        **{name: one and one._asdict() for name, one in made.items()},
        "absent": found.absent,
        "assumptions": ASSUMED,
    }
