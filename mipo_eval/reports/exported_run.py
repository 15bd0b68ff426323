"""A stored run with all that was said of it, also in the terms of AlpacaEval and lm-eval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.evaluation.graded import NO_FILTER, unit
from mipo_eval.evaluation.score import Numbers, Snapshot
from mipo_eval.metrics.aggregate import direction
from mipo_eval.records import Item, Run, Score
from mipo_eval.reports.leaderboard import ranks
from mipo_eval.reports.names import RowName, model_label, row_name, stored_rules
from mipo_eval.signature import Signature, short
from mipo_eval.store.engine import Store
from mipo_eval.store.judges import failing_by_short_key, list_judges
from mipo_eval.store.responses import answered
from mipo_eval.store.runs import generation_spec
from mipo_eval.store.verdicts import Grade, get_grades, judges_on, ratings_of, verdicts_of_all
from mipo_eval.verdict import PairVerdict

_SAMPLES = 5
_RATED = 20
"""Items whose single ratings are loaded: a report shows fewer."""
_WINNER = {"a": "prefers the response", "b": "prefers the reference", "tie": "tie"}
_ORDER = {"a": ", response shown first", "b": ", reference shown first", "?": ""}


class ExportedItem(NamedTuple):
    """An item of a run with its response, and what was said of that."""

    task: str
    item: Item
    text: str | None
    verdicts: Mapping[str, PairVerdict] = {}
    """Of response against reference, by the key of every judge that said something."""
    grades: Mapping[str, Grade] = {}
    """By judge key."""
    said: Sequence[str] = ()
    """All of it in words; single ratings of the first items only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedRun:
    """A stored run with everything that the store holds of it."""

    run_id: str
    model: str
    suite: str
    items: Sequence[ExportedItem] = ()
    judges: Mapping[str, str] = field(default_factory=dict)
    """Who said something: name by key."""
    scores: Sequence[Score] = ()
    name: RowName | None = None
    """What it is called in tables; None: by its model."""
    prompting: str = ""
    trained_seed: int | None = None
    """None where it is no run of a checkpoint trained here."""
    seed: int = 0
    """Of decoding."""
    baseline: str = "reference"
    """What the responses are compared with."""
    failing: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Judges that failed their validation, by their key in signatures, and why."""
    letters: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    """Of runs shown together, by (task, metric, signature): those that share a letter are not told
    apart."""

    @property
    def called(self) -> RowName:
        """What it is called in tables."""
        return self.name or RowName(model=model_label(self.model), method=self.prompting)

    @property
    def answered(self) -> int:
        """How many items have a response."""
        return sum(made.text is not None for made in self.items)

    @property
    def samples(self) -> list[ExportedItem]:
        """Some items to look at: rather with a response, and judged."""
        return sorted(self.items, key=lambda made: (not made.text, not made.said))[:_SAMPLES]

    def failings(self, score: Score) -> Sequence[str]:
        """Return why the judge behind a score failed its validation; nothing if it did not."""
        return self.failing.get(score.judge_key or "", ())


def load_run(
    store: Store, run: Run, letters: Mapping[tuple[str, str, str], str] | None = None
) -> ExportedRun:
    """Return everything the store holds of a run."""
    names = {judge.key: judge.name for judge in list_judges(store)}
    asked = judges_on(store, run.list_key)
    judged = verdicts_of_all(store, run, None, [key for key in names if key in asked])
    grades: dict[tuple[str, str | None], dict[str, Grade]] = {}
    for grade in get_grades(store, run.list_key):
        grades.setdefault((grade.item_key, grade.text_key), {})[grade.judge_key] = grade
    items: list[ExportedItem] = []
    shown = _RATED
    answers = answered(store, run.list_key, run.generation_key)
    for (row, said), made in zip(judged, answers, strict=True):
        text = made.response.text if made.response else None
        rated = _ratings(store, row.item_key, row.first, row.second) if text and shown > 0 else []
        shown -= bool(text)
        given = grades.get((row.item_key, made.text_key), {})
        lines = [*rated, *_in_words(said, given, names)]
        items.append(ExportedItem(made.task, made.item, text, said, given, lines))
    used = {key for made in items for key in (*made.verdicts, *made.grades)}
    spec = generation_spec(store, run.generation_key)
    rules = stored_rules(store)
    name, (trained, seed) = row_name(run, rules)
    return ExportedRun(
        run_id=run.run_id,
        model=run.model,
        suite=run.suite,
        name=name,
        prompting=run.prompting,
        trained_seed=trained if any(rule.matches(run) for rule in rules) else None,
        seed=seed,
        items=items,
        judges={key: name for key, name in names.items() if key in used},
        scores=Numbers(store).of_run(run),
        baseline=str(spec.get("baseline", "reference")),
        failing=failing_by_short_key(store),
        letters=letters or {},
    )


def _ratings(store: Store, item_key: str, first: str | None, second: str | None) -> list[str]:
    """Return each rating beside the reference's; preferences are counted from 1, as in reports."""
    other = {
        (judge, aspect): rating
        for judge, aspect, rating, _ in ratings_of(store, item_key, second or "")
    }
    return [
        f"{judge}: preference {aspect + 1} rated {why if rating is None else rating}"
        f" (reference {other.get((judge, aspect)) or 'none'})"
        for judge, aspect, rating, why in ratings_of(store, item_key, first or "")
    ]


def _in_words(
    verdicts: Mapping[str, PairVerdict], grades: Mapping[str, Grade], names: Mapping[str, str]
) -> list[str]:
    lines = []
    for key, verdict in verdicts.items():
        for choice in verdict.choices:
            told = _WINNER.get(choice.winner or "", choice.reason or "no verdict")
            if choice.preference is not None:
                told += f" (probability of the response {choice.preference:.2f})"
            lines.append(f"{names[key]}: {told}{_ORDER[choice.shown_first]}")
        if not verdict.choices:
            told = _WINNER.get(verdict.winner or "", verdict.reason or "no verdict")
            lines.append(f"{names[key]}: {told}{' of equal texts' if verdict.identical else ''}")
    for key, grade in grades.items():
        told = f"{grade.value:g}" if grade.value is not None else grade.reason or "no grade"
        lines.append(f"{names[key]}: {told}")
    return lines


def annotations(run: ExportedRun, name: str | None = None) -> list[dict[str, Any]]:
    """Return one judge's verdicts on a run as AlpacaEval writes its annotations.

    Raises:
        ConfigError: several judges chose, and `name` names none of them.
        DataError: no judge did, or the one named did not.
    """
    chose = {key for made in run.items for key in made.verdicts}
    judges = [key for key, own in run.judges.items() if key in chose and name in {None, own}]
    if not judges:
        by = f" by {name!r}" if name is not None else ""
        raise DataError(
            f"this run has no choices between two responses{by}, and no ratings of both a "
            "response and its reference"
        )
    if len(judges) > 1:
        names = ", ".join(run.judges[key] for key in judges)
        raise ConfigError(f"several judges judged this run ({names}): choose one with --judge")
    (judge,) = judges
    said = [made.verdicts.get(judge) for made in run.items]
    credits = [None if verdict is None else verdict.credit for verdict in said]
    if all(credit is None for credit in credits):
        raise DataError(
            f"{run.judges[judge]} has no verdict in this run, so there is nothing to write"
        )
    return [
        {
            "dataset": made.item.meta.get("dataset") or made.task,
            "instruction": made.item.meta.get("instruction", made.item.transcript),
            "output_1": made.item.reference or "",
            "generator_1": run.baseline,
            "output_2": made.text or "",
            "generator_2": run.model,
            "annotator": run.judges[judge],
            "preference": None if credit is None else credit + 1,
        }
        for made, credit in zip(run.items, credits, strict=True)
    ]


def lm_eval_results(run: ExportedRun) -> dict[str, Any]:
    """Return a run's scores as lm-eval writes its results; a judge stands where a filter does."""
    results: dict[str, dict[str, Any]] = {}
    counts: dict[str, dict[str, int]] = {}
    tasks = list(dict.fromkeys(made.task for made in run.items))
    order = {task: place for place, task in enumerate(tasks)}
    for score in sorted(run.scores, key=lambda score: order.get(score.task, len(order))):
        if score.value is None:
            continue
        filtered, scale = score.signature.parts.get("filter", NO_FILTER), unit(score.metric)
        used = f"judge:{score.judge}" if score.judge else filtered
        width = score.ci95[1] - score.ci95[0] if score.ci95 else None
        results.setdefault(score.task, {"alias": score.task}).update(
            {
                f"{score.name},{used}": score.value / scale,
                f"{score.name}_stderr,{used}": (
                    "N/A" if width is None else width / (2 * 1.96 * scale)
                ),
            }
        )
        if score.n is not None:
            most = max(score.n, counts.get(score.task, {}).get("effective", 0))
            counts[score.task] = {"original": most, "effective": most}
    return {
        "results": results,
        "configs": {task: {"task": task} for task in results},
        "versions": dict.fromkeys(results, 1),
        "n-samples": counts,
        "model_name": run.model,
        "model_source": "mipo-eval",
    }


def lm_eval_samples(run: ExportedRun) -> dict[str, list[dict[str, Any]]]:
    """Return a run's responses per task as lm-eval writes its samples, one per item and filter."""
    written: dict[str, list[dict[str, Any]]] = {}
    for made in run.items:
        of_filters: dict[str, dict[str, float | None]] = {}
        for key, grade in made.grades.items():
            metric, _, used = run.judges[key].partition(",")
            of_filters.setdefault(used or "none", {})[metric] = grade.value
        number = made.item.item_id.removeprefix(f"{made.task}-")
        replies = [] if made.text is None else [made.text]
        for used, metrics in (of_filters or {"none": {}}).items():
            row = {
                "doc_id": int(number) if number.isdecimal() else made.item.item_id,
                "doc": {"item_id": made.item.item_id, "query": made.item.transcript},
                "target": made.item.reference or "",
                "arguments": {"gen_args_0": {"arg_0": made.item.transcript, "arg_1": {}}},
                "resps": [[reply] for reply in replies],
                "filtered_resps": replies,
                "filter": used,
                "metrics": list(metrics),
                "doc_hash": made.item.meta.get("doc_hash") or made.item.key,
            }
            written.setdefault(made.task, []).append(row | metrics)
    return written


Named = tuple[str, str, str]
"""Task, metric and signature of a score."""


def tie_letters(now: Snapshot, runs: Sequence[Run]) -> Mapping[str, Mapping[Named, str]]:
    """Return, by run id and score, the letters a run shares with those it is not told apart from.

    Only scores by the same rules are compared, item by item; a metric without values per item,
    one that ranks nothing, and imported numbers without their items have no letters.
    """
    by_id = {run.run_id: run for run in runs}
    judges = {short(judge.key): judge.key for judge in now.judges}
    rows: dict[tuple[str, str, str, str | None, str], dict[str, Signature]] = {}
    for run, score in now.scores:
        if run.run_id in by_id and direction(score.metric):
            judge = judges.get(score.judge_key or "")
            key = (run.suite, score.task, score.metric, judge, score.signature.rule)
            rows.setdefault(key, {})[run.run_id] = score.signature
    letters: dict[str, dict[Named, str]] = {run_id: {} for run_id in by_id}
    for (_, task, metric, judge, _), signatures in rows.items():
        if len(signatures) < 2:
            continue
        alike = [by_id[run_id] for run_id in signatures]
        made = {task: next(iter(signatures.values()))}
        for sheet in now.outcomes.of_scores(alike, metric, judge, made).values():
            for column, rank in ranks(sheet.values, sheet).items():
                run_id = sheet.runs[column].run_id
                letters[run_id][task, metric, signatures[run_id]] = rank.letters
    return letters
