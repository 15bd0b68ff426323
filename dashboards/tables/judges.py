"""Whether judges can be believed, what they lean to, what they cost, and where to read them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pandas as pd

from mipo_eval.dashboards.links import address, run_name
from mipo_eval.dashboards.markup import MEASURED
from mipo_eval.dashboards.tables.run import dollars_for
from mipo_eval.dashboards.tables.scores import measured, number_frame, printed
from mipo_eval.evaluation.outcomes import ENDS
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.records import Run, Score
from mipo_eval.reports.names import row_name, trained_rules
from mipo_eval.reports.paper import TASKS, published
from mipo_eval.store.calls import latencies, spending
from mipo_eval.store.engine import Store, sample_below
from mipo_eval.store.judges import (
    Validation,
    choosers,
    judge_names,
    list_judges,
    list_validations,
)
from mipo_eval.store.responses import responses_to, text_lengths
from mipo_eval.store.runs import list_runs
from mipo_eval.store.tallies import choice_counts, latest_rated, mean_ratings, rating_counts
from mipo_eval.store.verdicts import chosen_pairs, pair_verdicts

ACCURACIES = {"strict": "strict", "tie_tolerant": "tie-tolerant"}
"""Name among a validation's figures to the paper's."""


def accuracy_table(store: Store) -> pd.DataFrame:
    """Return how judges meet human labels, with Table 7 below.

    Columns: judge, judge_key, data, accuracy ("strict" or "tie-tolerant"), value, low, high
    (percent), n, source. The constant judge, which always ties, has 0 and 100.
    """
    names = judge_names(store)
    lines = []
    for one in list_validations(store):
        for name, accuracy in ACCURACIES.items():
            if found := _figure(one, "judge", name):
                about = {"judge": names.get(one.judge_key, one.judge_key[:8]), "data": one.data}
                about |= {"judge_key": one.judge_key, "accuracy": accuracy}
                lines.append(about | _validated(found))
    for number in published(7):
        data = TASKS.get(number.dataset, number.dataset)
        about = {"judge": number.model, "data": data, "accuracy": number.method}
        lines.append(about | printed(number))
    columns = ["judge", "judge_key", "data", "accuracy", "value", "low", "high", "n", "source"]
    return number_frame(lines, columns)


def _figure(one: Validation, *path: str) -> Mapping[str, Any]:
    """Return the part of a validation's figures at this path; empty where it has none."""
    found: Any = one.figures
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _validated(figure: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a number that a validation found, as `measured` those of a score."""
    low, high = figure.get("ci95") or (None, None)
    about = {"value": figure.get("value"), "low": low, "high": high}
    return about | {"n": figure.get("n"), "source": MEASURED}


_VALIDATED = {
    "strict (%)": ("judge", "strict"),
    "tie-tolerant (%)": ("judge", "tie_tolerant"),
    "tie rate (%)": ("judge", "tie_rate"),
    "ties half (%)": ("judge", "half_ties"),
    "longest, ties half (%)": ("longest", "half_ties"),
    "over longest (points)": ("over_longest",),
    "named the first place (%)": ("first_place_rate",),
    "same verdict in both orders (%)": ("same_verdict_rate",),
}
"""Column to where its value stands among a validation's figures."""


def validation_table(store: Store) -> pd.DataFrame:
    """Return one line per judge and data: accuracies, ties, what it must beat, biases, failings."""
    names = judge_names(store)
    return pd.DataFrame(
        [
            {
                "judge": names.get(one.judge_key, one.judge_key[:8]),
                "data": one.data,
                "pairs": one.figures.get("pairs"),
                "judged": one.figures.get("judged"),
                **{title: _figure(one, *at).get("value") for title, at in _VALIDATED.items()},
                "kappa": _figure(one, "judge").get("kappa"),
                "excess for longer (points)": _figure(one, "length").get("excess"),
                "unparsed (%)": one.figures.get("unparsed_rate"),
                "failings": "; ".join(one.failings),
            }
            for one in list_validations(store)
            if "judge" in one.figures
        ]
    )


def attack_table(store: Store) -> pd.DataFrame:
    """Return how often hostile responses win, by judge and kind of attack; a tie is half a win.

    Columns: judge, judge_key, kind, value, low, high (percent), n, source, row.
    """
    names = judge_names(store)
    lines = []
    for one in list_validations(store):
        attacks = _figure(one, "attacks")
        judge = names.get(one.judge_key, one.judge_key[:8])
        for found in (*attacks.get("by_kind", ()), attacks.get("hostile_win_rate")):
            if found:
                kind = found["kind"] or "all kinds"
                about = {"judge": judge, "judge_key": one.judge_key, "kind": kind}
                lines.append(about | _validated(found) | {"row": f"{judge} · {kind}"})
    columns = ["judge", "judge_key", "kind", "value", "low", "high", "n", "source", "row"]
    return number_frame(lines, columns)


def control_table(now: Snapshot) -> pd.DataFrame:
    """Return win rates of control entrants beside the model's own: they must be far below.

    Columns: row, task, judge, entrant ("model", "echo", ...), metric, value, low, high, n, source,
    run_id.
    """
    rules = trained_rules(now.trainings)
    wanted = {"win_rate_tie_inclusive", "rating_mean"}
    found = [
        (run, now.numbers.current(run, stored))
        for run, stored in (*now.scores, *now.controls)
        if stored.metric in wanted
    ]
    found = sorted((pair for pair in found if pair[1].value is not None), key=_judged_as)
    tried = {_judged_as(pair) for pair in found if pair[1].control is not None}
    lines = []
    for run, score in found:
        if _judged_as((run, score)) in tried:
            name, _ = row_name(run, rules)
            about = {
                "row": name.in_full,
                "task": score.task,
                "judge": score.judge or "",
                "entrant": score.control or "model",
                "metric": score.metric,
                "run_id": run.run_id,
            }
            lines.append(about | measured(score))
    columns = ["row", "task", "judge", "entrant", "metric", "value", "low", "high", "n", "source"]
    return number_frame(lines, [*columns, "run_id"])


def _judged_as(found: tuple[Run, Score]) -> tuple[datetime, str, str, str, str]:
    """Return what a control's number has in common with the model's own, oldest run first."""
    run, score = found
    return run.created_at, run.run_id, score.task, score.metric, score.judge or ""


def rating_table(store: Store) -> pd.DataFrame:
    """Return how judges use their scale: judge, judge_key, rating, verdicts, share (0-1).

    Verdicts without a rating are a line of their own whose rating is absent.
    """
    frame = pd.DataFrame(rating_counts(store), columns=["judge_key", "rating", "verdicts"])
    frame["judge"] = frame["judge_key"].map(judge_names(store))
    frame["rating"] = frame["rating"].astype("Int64")
    frame["share"] = frame["verdicts"] / frame.groupby("judge_key")["verdicts"].transform("sum")
    columns = ["judge", "judge_key", "rating", "verdicts", "share"]
    return frame[columns].sort_values(["judge", "rating"], ignore_index=True)


def place_table(store: Store) -> pd.DataFrame:
    """Return how choices depend on the places, one line per judge that chooses.

    Columns: judge, judge_key, choices (named a response that is known to have stood first or
    second), first (%, of those, named the one that stood first; 50 is no bias), ties, unread,
    pairs (asked and read in both orders), same (%), flipped (%; named the other response when the
    places were exchanged).
    """
    names = judge_names(store)
    counts = pd.DataFrame(choice_counts(store), columns=["judge_key", "shown", "winner", "n"])
    lines = []
    for judge in sorted(choosers(store), key=lambda judge: names[judge.key]):
        own = counts[counts["judge_key"] == judge.key]
        placed = own[own["winner"].isin(["a", "b"]) & own["shown"].isin(["a", "b"])]
        named, first = placed["n"].sum(), placed[placed["winner"] == placed["shown"]]["n"].sum()
        told = pair_verdicts(store, judge.key, chosen_pairs(store, [judge.key]))
        both = [one for one in told if one.winner and len(one.choices) == 2]
        same = [one.choices[0].winner == one.choices[1].winner for one in both]
        lines.append(
            {
                "judge": names[judge.key],
                "judge_key": judge.key,
                "choices": int(named),
                "first": 100 * first / named if named else None,
                "ties": int(own[own["winner"] == "tie"]["n"].sum()),
                "unread": int(own[own["winner"].isna()]["n"].sum()),
                "pairs": len(both),
                "same": 100 * sum(same) / len(both) if both else None,
                "flipped": 100 * sum(bool(one.flipped) for one in both) / len(both)
                if both
                else None,
            }
        )
    return pd.DataFrame(lines)


def length_table(store: Store) -> pd.DataFrame:
    """Return ratings against the length of responses, by judge and length.

    Columns: judge, judge_key, characters (middle of the bin), start, end, rating (mean, 1-5), low,
    high (95 %, normal), responses. Over a sample of items drawn by their keys, so that every run
    is in it alike; bins hold equally many responses.
    """
    lines = []
    names = judge_names(store)
    for key, own in _rated_lengths(store).items():
        bins = pd.qcut(own["characters"], 8, duplicates="drop") if len(own) > 8 else [0] * len(own)
        for _, part in own.groupby(bins, observed=True):
            mean, n = part["rating"].mean(), len(part)
            half = 1.96 * part["rating"].std() / n**0.5 if n > 1 else None
            least, most = ENDS["rating_mean"]
            lines.append(
                {
                    "judge": names[key],
                    "judge_key": key,
                    "characters": part["characters"].mean(),
                    "start": part["characters"].min(),
                    "end": part["characters"].max(),
                    "rating": mean,
                    "low": None if half is None else max(mean - half, least),
                    "high": None if half is None else min(mean + half, most),
                    "responses": n,
                }
            )
    columns = ["judge", "judge_key", "characters", "start", "end", "rating", "low", "high"]
    return pd.DataFrame(lines, columns=[*columns, "responses"])


def _rated_lengths(store: Store) -> dict[str, pd.DataFrame]:
    """Return, by judge, characters and mean ratings of responses to a sample of the items.

    Both tables are read as ranges of their keys and joined here: over a million verdicts the
    database's own join takes minutes.
    """
    below = sample_below(sum(run.n_items for run in list_runs(store)))
    keys = ["item_key", "text_key"]
    lengths = pd.DataFrame(text_lengths(store, below), columns=[*keys, "characters"])
    lengths = lengths.drop_duplicates()
    found = {}
    for judge in list_judges(store):
        rated = pd.DataFrame(mean_ratings(store, judge.key, below), columns=[*keys, "rating"])
        if len(both := rated.merge(lengths, on=keys)):
            found[judge.key] = both
    return dict(sorted(found.items()))


def expense_table(store: Store) -> pd.DataFrame:
    """Return what was asked of every backend and what it took.

    Columns: backend, model, url, calls, failed, prompt_tokens, completion_tokens (as the replies
    told), dollars (by the dated price table; 0 for rules and servers of one's own, absent without
    a price), seconds_median, seconds_95 (over a sample of the calls; absent where nobody measured).
    """
    found = spending(store)
    seconds: dict[str, list[float]] = {}
    for backend, took in latencies(store, sum(own.calls for own in found)):
        seconds.setdefault(str(backend), []).append(took)
    lines = []
    for own in found:
        measured = pd.Series(seconds.get(str(own.backend), []), dtype=float)
        lines.append(
            {
                "backend": own.backend.get("backend", ""),
                "model": own.backend.get("model") or own.backend.get("name") or "",
                "url": own.backend.get("url", ""),
                "calls": own.calls,
                "failed": own.failed,
                "prompt_tokens": own.prompt_tokens,
                "completion_tokens": own.completion_tokens,
                "dollars": dollars_for(own),
                "seconds_median": measured.median() if len(measured) else None,
                "seconds_95": measured.quantile(0.95) if len(measured) else None,
            }
        )
    return pd.DataFrame(lines).sort_values("calls", ascending=False) if lines else pd.DataFrame()


def of_ratings(store: Store) -> dict[str, str]:
    """Return, by judge key, where to read ratings of a judge: in the latest run it has rated.

    A judge that rated no response of a run is not there.
    """
    known = {run.run_id: run for run in list_runs(store)}
    found = {}
    for key, name in judge_names(store).items():
        run_id = latest_rated(store, key)
        if run_id is not None:
            found[key] = address("pairs", a=run_name(known[run_id]), by=name)
    return found


def of_choices(store: Store) -> dict[str, str]:
    """Return, by judge key, where to read choices of a judge: between the runs of one of them.

    A judge that chose between no run's responses is not there.
    """
    known, called = list_runs(store), judge_names(store)
    found = {}
    for judge in choosers(store):
        pair = chosen_pairs(store, [judge.key])[0]
        made = responses_to(store, pair.item_key)
        names: dict[str | None, str] = {}
        for run in known:
            if run.generation_key in made:
                names.setdefault(made[run.generation_key].text_key, run_name(run))
        sides = [names.get(pair.first), names.get(pair.second)]
        first, second = sides if sides[0] else sides[::-1]  # one of them may be no run's
        if first is not None:
            found[judge.key] = address("pairs", a=first, b=second, by=called[judge.key])
    return found
