"""What asking a judge again shows: its noise, as part of an interval; its drift since it judged."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mipo_eval.judges.again import AskedAgain, Occasion
from mipo_eval.judges.judge import Judge
from mipo_eval.judges.panel import leads, margins
from mipo_eval.judges.validate import FAILED_AT_MOST
from mipo_eval.keys import digest
from mipo_eval.metrics.agreement import Reliability
from mipo_eval.metrics.win_rate import TIE_CREDIT, Ties, worth
from mipo_eval.stats.bootstrap import Floats, Interval
from mipo_eval.stats.intervals import RATE, intervals_in
from mipo_eval.stats.noise import JudgeNoise, judge_noise
from mipo_eval.stats.paired import Comparison, compare
from mipo_eval.store.engine import Store, now
from mipo_eval.store.judges import Validation, list_validations, put_validation
from mipo_eval.verdict import PairVerdict

MARGINS = (-4.0, 4.0)
"""The span of a mean rating less another."""
_AGAIN = "asked again "
"""How the data of a stored drift begin; the day follows."""


class Noisy(NamedTuple):
    """A number of a run, and how much of it is the judge's noise."""

    value: float
    ci95: Interval | None
    n: int
    noise: JudgeNoise | None
    """None where nothing was answered twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """How a judge's verdicts on one task of a run vary when it is asked again."""

    task: str
    asked: int
    """Items that were asked about again."""
    win_rate: Noisy
    rating: Noisy | None
    """Mean rating less that of the other side; None for a judge that chooses."""
    verdicts: Reliability
    """Of win, tie and loss, among all askings."""
    replies: Reliability
    """Of single ratings, or choices in one order."""
    missing: Mapping[str, int]
    """Askings without a verdict, by reason."""


def noise(found: AskedAgain, ties: Ties) -> Noise:
    """Return how much of a task's numbers is noise; `ties` is what a tie is worth."""
    verdicts, replies = found.agreement()
    return Noise(
        task=found.task,
        asked=len(found.places),
        win_rate=_noisy(found, _wins(ties), RATE),
        rating=None if np.isnan(margins(found.verdicts)).all() else _noisy(found, margins, MARGINS),
        verdicts=verdicts,
        replies=replies,
        missing=found.missing(),
    )


_Worth = Callable[[Sequence[PairVerdict]], Floats]


def _wins(ties: Ties) -> _Worth:
    """Return what makes of verdicts what they are worth, in percent; NaN for none."""
    rule = list(TIE_CREDIT).index(ties)
    return lambda verdicts: worth(leads(verdicts))[:, rule]


def _noisy(found: AskedAgain, valued: _Worth, span: Interval) -> Noisy:
    values, groups = valued(found.verdicts), found.groups(asked=False)
    answers = np.array([valued([said.verdict for said in of_pair]) for of_pair in found.said])
    return Noisy(
        value=float(np.nanmean(values)),
        ci95=intervals_in(values[:, None], groups, span)[0],
        n=int((~np.isnan(values)).sum()),
        noise=judge_noise(answers, found.groups(), values, groups),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What a judge says on a day of what it judged before."""

    task: str
    day: str
    asked: int
    """Items that were asked about again."""
    verdicts: Reliability
    """Of win, tie and loss, then and now; what is not the same changed."""
    replies: Reliability
    changes: Mapping[str, int]
    """How verdicts changed, e.g. "a to tie", as the first side sees them."""
    win_rate: Comparison | None
    """Now less then, in points; a tie as asked."""
    rating: Comparison | None
    missing: Mapping[str, int]
    kept: bool
    """Whether the store has it: not where too many askings brought no verdict."""
    earlier: Sequence[tuple[str, float, Interval | None]]
    """Day, share of verdicts that had changed (0-100) and its interval, of these same items."""


def changed(found: Reliability) -> tuple[float | None, Interval | None]:
    """Return the share that is not the same, 0-100, with its interval."""
    ends = found.share_ci95
    share = None if found.share is None else 100 - found.share
    return share, ends and (100 - ends[1], 100 - ends[0])


def drift(store: Store, judge: Judge, found: AskedAgain, day: Occasion, ties: Ties) -> Drift:
    """Return how verdicts differ from what they were, and store it with its day."""
    verdicts, replies = found.agreement()
    then, late = ([of_pair[when].verdict for of_pair in found.said] for when in (0, 1))
    missing = found.missing()
    turned = [(a.winner, b.winner) for a, b in zip(then, late, strict=True)]
    key = digest([found.rows[place].pair for place in found.places])
    made = Drift(
        task=found.task,
        day=day.name,
        asked=len(found.places),
        verdicts=verdicts,
        replies=replies,
        changes=Counter(f"{a} to {b}" for a, b in turned if a and b and a != b),
        win_rate=_difference(found, _wins(ties)(late), _wins(ties)(then), (0.0, 100.0)),
        rating=_difference(found, margins(late), margins(then), MARGINS),
        missing=missing,
        kept=sum(missing.values()) <= FAILED_AT_MOST * len(found.places),
        earlier=_earlier(store, judge.key, key, day.name),
    )
    if made.kept:
        validation = Validation(
            judge_key=judge.key,
            data=f"{_AGAIN}{day.name}",
            data_key=key,
            figures={"pairs": made.asked, "drift": drift_json(made)},
            failings=(),
            created_at=now(),
        )
        put_validation(store, validation)
    return made


def _difference(found: AskedAgain, late: Floats, then: Floats, span: Interval) -> Comparison | None:
    if np.isnan(late - then).all():
        return None
    return compare(late, then, found.groups(), names=("now", "then"), span=span)


def _earlier(
    store: Store, judge_key: str, data_key: str, day: str
) -> list[tuple[str, float, Interval | None]]:
    found = []
    for one in list_validations(store):
        past = one.figures.get("drift")
        if past and (one.judge_key, one.data_key) == (judge_key, data_key) and past["day"] != day:
            ends = past["changed"]["ci95"]
            found.append((past["day"], past["changed"]["value"], ends and (ends[0], ends[1])))
    return sorted(found)


def noise_json(found: Noise) -> dict[str, Any]:
    """Return a task's noise as `--json` shows it."""
    return {
        "task": found.task,
        "asked": found.asked,
        "win_rate": _noisy_json(found.win_rate),
        "rating_difference": found.rating and _noisy_json(found.rating),
        "verdicts": found.verdicts._asdict(),
        "replies": found.replies._asdict(),
        "missing": dict(found.missing),
    }


def _noisy_json(found: Noisy) -> dict[str, Any]:
    own = found.noise
    return {
        "value": found.value,
        "ci95": found.ci95,
        "n": found.n,
        "sd_between_askings": own and {"value": own.sd, "ci95": own.sd_ci95},
        "error_of_noise": own and own.error,
        "share_of_variance": own and {"value": own.share, "ci95": own.share_ci95},
    }


def drift_json(found: Drift) -> dict[str, Any]:
    """Return a task's drift as `--json` shows it and the store keeps it."""
    share, ends = changed(found.verdicts)
    return {
        "task": found.task,
        "day": found.day,
        "asked": found.asked,
        "changed": {"value": share, "n": found.verdicts.n, "ci95": ends},
        "changes": dict(found.changes),
        "verdicts": found.verdicts._asdict(),
        "replies": found.replies._asdict(),
        "win_rate_difference": found.win_rate and _compared_json(found.win_rate),
        "rating_difference": found.rating and _compared_json(found.rating),
        "missing": dict(found.missing),
    }


def _compared_json(found: Comparison) -> dict[str, Any]:
    return {"value": found.difference, "ci95": found.ci95, "p": found.p, "n": found.n}
