"""Control entrants: where their texts come from, and that a fooled judge is named."""

import json
from pathlib import Path

import pytest

from mipo_eval.cli import main
from mipo_eval.evaluation.controls import CONTROLS, GENERIC, control_texts
from mipo_eval.records import Item, Response
from mipo_eval.store.responses import Answered
from mipo_eval.tasks.items import write_items
from tests.servers.openai_server import OpenAIServer, ok


def _entry(n: int, text: str | None = "") -> Answered:
    item = Item(
        item_id=str(n),
        prompt=f"Tea {n // 3}?",
        context=f"I am person {n}.",
        preferences=("Be kind.",),
        reference=f"Reference {n}." if n else None,
        group_id=f"tea-{n // 3}",
    )
    said = f"Response {n}." if text == "" else text
    return Answered(n, "t", item, Response(item_key=item.key, text=said, prompt_hash="0"))


ENTRIES = [_entry(0), _entry(1), _entry(2, None), _entry(3)]


def test_where_the_texts_come_from() -> None:
    texts = {name: control_texts(name, ENTRIES, seed=0) for name in CONTROLS}
    assert texts["generic"] == [GENERIC] * 4
    assert texts["echo"] == [f"I am person {n}." for n in range(4)]
    assert texts["reference"] == [None, "Reference 1.", "Reference 2.", "Reference 3."]
    # Another user's response to the same prompt; the last item's prompt has no other user.
    assert texts["mismatched"][:2] == ["Response 1.", "Response 0."]
    assert texts["mismatched"][2] in {"Response 0.", "Response 1."}
    assert texts["mismatched"][3] is None


def test_the_draw_does_not_depend_on_order() -> None:
    entries = [_entry(n) for n in range(3)]
    drawn = control_texts("mismatched", entries, seed=1)
    assert control_texts("mismatched", entries[::-1], seed=1) == drawn[::-1]


def test_a_judge_that_likes_echoes_is_named(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_items(Path("tea.jsonl"), [_entry(n).item for n in range(6)])
    argv = ["--model", str(tiny_model), "--suite", "tea.jsonl", "--decoding", "max_tokens=8"]

    def fooled(call: object) -> object:
        return ok("5" if "I am person" in str(getattr(call, "body", "")) else "2")

    with OpenAIServer(fooled) as server:  # type: ignore[arg-type]
        argv += ["--judge", f"openai:judge@{server.url}", "--controls"]
        assert main(argv) == 0
        shown = capsys.readouterr().out
        assert main([*argv, "--json"]) == 0
    assert "broken: control echo does as well as the model in tea (5.00 and 2.00 by judge)" in shown
    assert "judged by judge: control echo" in shown
    document = json.loads(capsys.readouterr().out)
    broken = {flag["control"]: flag for flag in document["broken"]}
    assert set(broken) == {"echo", "generic", "mismatched"}  # all that is not above the model's 2
    assert (broken["echo"]["task"], broken["echo"]["judge"]) == ("tea", "judge")
    assert (broken["echo"]["rating"], broken["echo"]["own"]) == (5.0, 2.0)
    scores = document["scores"]
    found = {score["metric"]: score for score in scores}
    assert found["rating_mean"]["value"] == 2.0
    assert found["control_echo_rating_mean"]["value"] == 5.0
    assert found["control_reference_tie_rate"]["value"] == 100.0
    assert found["control_reference_tie_rate"]["unscored"] == 1
