"""The main job on a model and a data set nobody here made: stories260K on P-Soups."""

import json
import zlib
from pathlib import Path

import pytest

from mipo_eval.cli import main
from tests.servers.http import Act, Call
from tests.servers.openai_server import OpenAIServer, broken, cut_off, ok, refusal

# Means over subsets of one size, so that suites of different size can be compared.
FIXED = {
    "self_bleu_4_fixed",
    "self_bleu_4_same_prompt",
    "self_bleu_4_same_prompt_fixed",
    "distinct_1_fixed",
    "distinct_2_fixed",
    "pairwise_similarity_fixed",
}


def _judge(call: Call) -> Act:
    """Rate by a digest of the text; some replies are unreadable, refused or never arrive."""
    lot = zlib.crc32(json.dumps(call.body["messages"]).encode())
    if lot % 50 == 0:
        return ok("I would say 2, or rather 3")
    if lot % 51 == 0:
        return refusal()
    if lot % 211 == 0 and call.number < 1100:
        return cut_off()
    return broken() if lot % 199 == 0 and call.number < 1000 else ok(str(1 + lot % 5))


def test_every_item_is_scored_or_counted_with_a_reason(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("plain.jinja").write_text("{% for m in messages %}{{ m['content'] }}\n{% endfor %}")
    argv = ["--model", str(shared_data / "stories260k" / "hf"), "--suite", "psoups"]
    argv += ["--data", str(shared_data), "--engine", "chat_template=plain.jinja", "--json"]
    with OpenAIServer(_judge) as server:
        argv += ["--decoding", "max_tokens=16", "--judge", f"openai:judge@{server.url}"]
        assert main(argv) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["n_items"] == 600
    by_metric = {score["metric"]: score for score in document["scores"]}
    assert set(by_metric) == {
        "win_rate_tie_inclusive",
        "win_rate_half_ties",
        "win_rate_strict",
        "tie_rate",
        "rating_mean",
        "self_bleu_4",
        "response_tokens",
        "truncation_rate",
        *FIXED,
    }
    for score in document["scores"]:
        assert score["n"] + score["unscored"] == 600
        assert score["unscored"] == sum(score["unscored_reasons"].values())
        if score["metric"] == "response_tokens":
            assert score["ci95"] is None  # cut at 16 tokens, all of them: nothing varies
            continue
        low, high = score["ci95"]
        assert low <= score["value"] <= high
    win = by_metric["win_rate_tie_inclusive"]
    assert 500 < win["n"] < 600
    assert {"unparsable reply", "call failed: refused"} <= set(win["unscored_reasons"])
    half = (win["value"] + by_metric["win_rate_strict"]["value"]) / 2
    assert by_metric["win_rate_half_ties"]["value"] == pytest.approx(half)
