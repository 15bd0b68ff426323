"""Means over items: n, reasons, interval, refusal of an empty mean."""

import json
import math
from pathlib import Path

import pytest

from mipo_eval.errors import DataError
from mipo_eval.metrics.aggregate import mean_score, rate_score
from mipo_eval.signature import join
from mipo_eval.stats import Crossed


def test_rating_mean_leaves_out_what_is_absent() -> None:
    score = mean_score(
        "rating_mean", [1, None, 5, 3], reasons=[None, "unparsable reply", None, None]
    )
    assert (score.metric, score.value, score.n) == ("rating_mean", 3, 3)
    assert score.unscored_reasons == {"unparsable reply": 1}


def test_mean_score_carries_the_callers_name_and_signature() -> None:
    score = mean_score("context_lift", [10, 20], signature=join(tok="demo"), groups=["a", "b"])
    assert score.to_json() == {
        "task": "",
        "metric": "context_lift",
        "value": 15.0,
        "n": 2,
        "unscored": 0,
        "unscored_reasons": {},
        "ci95": pytest.approx([15 - 5 * 12.7062, 15 + 5 * 12.7062], abs=1e-3),  # t, 1 degree
        "signature": "tok:demo",
    }


def test_reasons_are_listed_when_nothing_is_scored() -> None:
    with pytest.raises(DataError, match=r"none of 2 items has a value \(timeout: 2\)"):
        mean_score("rating_mean", [None, None], reasons=["timeout", "timeout"])


def test_nan_is_refused() -> None:
    with pytest.raises(DataError, match=r"rating_mean\[1\] is nan"):
        mean_score("rating_mean", [1, math.nan])


def test_a_perfect_rate_is_not_certain() -> None:
    sure = mean_score("m", [100] * 20)
    honest = rate_score("accuracy", [100] * 20)
    assert sure.ci95 is None  # nothing varies, and a mean does not know where its scale ends
    # Clopper-Pearson of 20 out of 20, from a table.
    assert honest.ci95 == pytest.approx((83.157, 100), abs=1e-3)
    paired = rate_score("accuracy", [100] * 20, groups=[i // 2 for i in range(20)])
    assert paired.ci95 == pytest.approx((69.150, 100), abs=1e-3)


def test_users_who_come_back_widen_the_interval() -> None:
    values = [float(user) for _ in range(30) for user in range(6)]
    prompts = [prompt for prompt in range(30) for _ in range(6)]
    alone = mean_score("m", values, groups=prompts).ci95
    crossed = [Crossed(prompt, user) for prompt, user in zip(prompts, values, strict=True)]
    both = mean_score("m", values, groups=crossed).ci95
    assert alone is None  # every prompt has the same six users: prompts do not differ
    assert both is not None
    assert both[1] - both[0] > 2


@pytest.mark.parametrize("model", ["llama2_7b", "llama2_chat_7b"])
def test_published_means_of_mt_bench(shared_data: Path, model: str) -> None:
    truth = json.loads((shared_data / "mt_bench" / "GROUND_TRUTH.json").read_text())
    lines = (shared_data / "mt_bench" / "single_llama2_finetunes.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["model"] == model]
    for turn in (1, 2):
        ratings = [row["score"] for row in rows if row["turn"] == turn]
        assert (
            mean_score("rating_mean", ratings).value
            == truth["single_llama2_finetunes"][f"turn{turn}"][model]
        )
    both = mean_score(
        "rating_mean", [row["score"] for row in rows], groups=[row["question_id"] for row in rows]
    )
    assert both.value == pytest.approx(truth["single_llama2_finetunes"]["average"][model])
