"""Items with earlier turns and system prompts: through the main job, judging, training, exports."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from mipo_eval import settings
from mipo_eval.cli import main
from mipo_eval.dashboards.tables import pairs
from mipo_eval.evaluation.generate import Asking, responses_spec
from mipo_eval.judges.judge import (
    PAIR_SLOTS,
    RATING_OPTIONAL_SLOTS,
    RATING_SLOTS,
    Judge,
    choice_requests,
    rating_requests,
)
from mipo_eval.judges.prompt import load_prompt
from mipo_eval.keys import digest
from mipo_eval.models.base import ScriptedBackend
from mipo_eval.models.lm_eval import Decoding, ModelOptions
from mipo_eval.models.spec import parse_model
from mipo_eval.records import Item
from mipo_eval.store import Store
from mipo_eval.store.responses import answered
from mipo_eval.store.runs import list_runs
from mipo_eval.tasks.items import write_items
from mipo_eval.tasks.suites import find_suite
from tests.dashboards.opening import open_page, texts
from tests.servers.http import Act, Call
from tests.servers.openai_server import OpenAIServer, error, ok
from tests.small_models import make_model

TEMPLATES = Path(__file__).parents[1] / "templates"
PLAIN = Item(
    item_id="tea-u1",
    prompt="How do I brew tea?",
    context="I am nine.",
    preferences=("Be short.",),
    reference="Ask.",
    user_id="u1",
    group_id="tea",
    meta={"n": 1},
)
TALK = [
    {"role": "system", "content": "You know teas."},
    {"role": "user", "content": "I have green tea."},
    {"role": "assistant", "content": "Lovely."},
]
LATER = Item.model_validate(PLAIN.model_dump(mode="json") | {"item_id": "later", "messages": TALK})
ASKED = [{"role": "user", "content": "Hot?"}, {"role": "assistant", "content": "Yes, "}]
BEGUN = Item.model_validate(
    {"item_id": "begun", "preferences": ["Be short."], "reference": "No."}
    | {"messages": [*TALK, *ASKED]}
)


def _run(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    capsys.readouterr()
    assert main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def _stored(run_id: str | None = None) -> dict[str, Any]:
    with Store.open(settings.store_url(), mode="read") as store:
        runs = [run for run in list_runs(store) if run_id in {None, run.run_id}]
        return {
            entry.item.item_id: entry.response
            for run in runs
            for entry in answered(store, run.list_key, run.generation_key)
        }


def _scripted(protocol: str) -> Judge:
    required = RATING_SLOTS if protocol == "rubric" else PAIR_SLOTS
    optional = RATING_OPTIONAL_SLOTS if protocol == "rubric" else frozenset()
    prompt = load_prompt(protocol, required=required, optional=optional)
    return Judge(name="s", spec="s", backend=ScriptedBackend([]), prompt=prompt, protocol=protocol)


def test_items_without_earlier_turns_are_what_they_were() -> None:
    """Digests that version 0.1 gave: stored responses, verdicts and calls are found again."""
    assert PLAIN.key == "8c6b1d132ccb1a6c2ed994dbd4a20bec"
    assert "messages" not in PLAIN.model_dump_json()
    [rating] = rating_requests(_scripted("rubric"), PLAIN, "Boil water.")
    assert digest(rating.messages[0].content) == "7605cc7f2fc0b8b0cfe5931c309897e2"
    choices = choice_requests(_scripted("pairwise"), PLAIN, "a", "b")
    assert [digest(choice.messages[0].content) for choice in choices] == [
        "09359be943b9848b60f481c701d9cccb",
        "e2c3a7c96689d521333e108f27c9e27b",
    ]
    for suite, key in (
        ("ca", "0b284e0ca5704b097485aa31109e1cef"),
        ("gsm8k", "2e69f2d70a12bf6e15afa8c58b9f132d"),
    ):
        asked = Asking(
            model=parse_model("openai:m@https://api.openai.com/v1"),
            options=ModelOptions(),
            suite=find_suite(suite),
            prompting="personalized",
            decoding=Decoding(),
            data_dir=Path(),
        )
        assert digest(responses_spec(asked)) == key


def test_a_conversation_may_be_given_whole() -> None:
    assert BEGUN.prompt == "Hot?"
    assert BEGUN.prefill == "Yes, "
    assert [turn.role for turn in BEGUN.messages] == ["system", "user", "assistant"]
    assert Item.model_validate_json(BEGUN.model_dump_json()) == BEGUN
    assert BEGUN.key != BEGUN.model_copy(update={"prefill": ""}).key


def test_a_server_is_sent_the_whole_conversation(capsys: pytest.CaptureFixture[str]) -> None:
    write_items(Path("talk.jsonl"), [PLAIN, LATER, BEGUN])
    with OpenAIServer(lambda call: ok(f"{len(call.body['messages'])} turns")) as server:
        argv = ["--model", f"openai:judge@{server.url}", "--suite", "talk.jsonl"]
        document = _run(capsys, *argv, "--system", "Be kind.")
        bodies = {len(call.body["messages"]): call.body for call in server.calls if call.body}
        _run(capsys, *argv, "--system", "Be kind.")
        assert server.chats == 4  # one of them to see whether there is a system role
        plain = _run(capsys, *argv)
    assert document["run_id"] != plain["run_id"]
    alone, later, begun = bodies[2]["messages"], bodies[4]["messages"], bodies[5]
    assert alone[0] == {"role": "system", "content": "Be kind."}
    assert alone[1]["content"].startswith("How do I brew tea?")
    assert later[0]["content"] == "Be kind.\n\nYou know teas."
    assert later[1:3] == TALK[1:]
    assert later[3] == alone[1]
    assert begun["messages"][-1] == {"role": "assistant", "content": "Yes, "}
    assert (begun["continue_final_message"], begun["add_generation_prompt"]) == (True, False)
    assert "continue_final_message" not in bodies[4]
    assert _stored(document["run_id"])["begun"].text == "Yes, 5 turns"
    assert "|system:" in document["scores"][0]["signature"]


def test_a_server_without_a_system_role(capsys: pytest.CaptureFixture[str]) -> None:
    def gemma(call: Call) -> Act:
        if call.body["messages"][0]["role"] == "system":
            return error(400, "System role not supported")
        return ok(call.body["messages"][0]["content"])

    write_items(Path("talk.jsonl"), [PLAIN, LATER])
    with OpenAIServer(gemma) as server:
        argv = ["--model", f"openai:judge@{server.url}", "--suite", "talk.jsonl"]
        document = _run(capsys, *argv, "--system", "Be kind.")
    stored = _stored(document["run_id"])
    assert stored["tea-u1"].text.startswith("Be kind.\n\nHow do I brew tea?")
    assert stored["later"].text == "Be kind.\n\nYou know teas.\n\nI have green tea."


def test_checkpoints_are_asked_in_their_own_form(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    greets = Item(
        item_id="greets", prompt="Hi?", messages=[{"role": "assistant", "content": "Hello!"}]
    )
    write_items(Path("talk.jsonl"), [PLAIN, LATER, BEGUN, greets])
    for name, role in (("gemma", "user"), ("llama3", None)):
        template = (TEMPLATES / f"{name}.jinja").read_text()
        folder = make_model(tmp_path / name, context=1024, template=template, bos=True)
        argv = ["--model", str(folder), "--suite", "talk.jsonl", "--decoding", "max_tokens=4"]
        document = _run(capsys, *argv, "--system", "Be kind.")
        signature = document["scores"][0]["signature"]
        assert ("system_role:user" in signature) is (role == "user")
        assert main([*argv, "--system", "Be kind."]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert ("has no system role" in shown) is (role == "user")
        stored = _stored(document["run_id"])
        assert stored["begun"].text.startswith("Yes,")
        refused = stored["greets"].reason or ""
        assert ("roles must alternate" in refused) is (name == "gemma")
    assert main([*argv, "--system", "nowhere.txt"]) == 2
    assert "nowhere.txt cannot be read" in capsys.readouterr().err


def test_openai_cannot_continue_and_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_items(Path("talk.jsonl"), [BEGUN])
    with OpenAIServer() as server:
        argv = ["--suite", "talk.jsonl", "--model"]
        served = (
            f"lm-eval:local-chat-completions:model=judge,base_url={server.url}/chat/completions"
        )
        assert main([*argv, served]) == 2
        assert "begins the response (prefill)" in capsys.readouterr().err
        assert server.chats == 0


def test_judges_and_readers_see_the_conversation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_items(Path("talk.jsonl"), [PLAIN, LATER])
    with OpenAIServer(ok("Boil water.")) as served, OpenAIServer(ok("4")) as judge:
        argv = ["--model", f"openai:judge@{served.url}", "--suite", "talk.jsonl", "--system", "Hm."]
        run_id = _run(capsys, *argv, "--judge", f"openai:judge@{judge.url}")["run_id"]
        asked = {call.body["messages"][0]["content"] for call in judge.calls if call.body}
    [seen, _] = sorted(text for text in asked if "green tea" in text)
    mark = re.search(r"<(\w{16}):query>", seen)
    assert mark is not None
    blocks = [*((turn["role"], turn["content"]) for turn in TALK), ("user", PLAIN.prompt)]
    within = "\n".join(f"<{mark[1]}:{role}>\n{text}\n</{mark[1]}:{role}>" for role, text in blocks)
    assert f"<{mark[1]}:query>\n{within}\n</{mark[1]}:query>" in seen
    assert "Hm." not in seen

    transcript = "User: I have green tea.\n\nAssistant: Lovely.\n\nUser: How do I brew tea?"
    assert LATER.transcript == f"System: You know teas.\n\n{transcript}"
    for command in (["show", run_id, "--item", "later"], ["data", "show", "talk.jsonl"]):
        assert main(command) == 0
        shown = capsys.readouterr().out
        assert "conversation: System: You know teas." in shown
        assert "Assistant: Lovely." in shown
    exports = {
        "html": ("r.html", "r.html"),
        "alpaca_eval": ("a.json", "a.json"),
        "lm_eval": ("results_2026-01-31T12-00-00.json", "samples_*.jsonl"),
    }
    for name, (file, holds) in exports.items():
        assert main(["export", run_id, "--format", name, "--output", file]) == 0
        assert "Lovely." in next(Path().glob(holds)).read_text(), name
    with Store.open(settings.store_url(), mode="read") as store:
        assert pairs.search(store, run_id, None, "GREEN TEA") == {1}
    page = open_page(monkeypatch, Path(settings.store_url()), "pairs", a=run_id, item="1")
    html = texts(page)
    assert "Lovely." in html
    assert "conversation" in html


def test_a_run_with_a_system_prompt_is_reproduced(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_items(Path("talk.jsonl"), [LATER])
    told = "Be kind -- and brief, always.\nBe true."
    with OpenAIServer(lambda call: ok(call.body["messages"][0]["content"])) as served:
        argv = ["--model", f"openai:judge@{served.url}", "--suite", "talk.jsonl"]
        argv += ["--system", told]
        monkeypatch.setattr(sys, "argv", ["mipo-eval", *argv])
        run_id = _run(capsys, *argv)["run_id"]
        again = _run(capsys, "reproduce", run_id, "--run")
    assert again["reproduced"] is True
    assert again["spec"]["system"] == told
