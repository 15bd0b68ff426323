"""MIPO in TRL's own trainers: the examples that are shown; what is counted, stopped and kept."""

import asyncio
import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.demo.model import base_model
from mipo_eval.errors import ConfigError
from mipo_eval.models.callable import CallableBackend
from mipo_eval.store import Store
from mipo_eval.store.runs import list_runs
from mipo_eval.trl import MipoDataset, PromptDataset, WinRateCallback, reward_funcs
from tests.servers.http import json_act
from tests.servers.openai_server import OpenAIServer, completion, expired_key
from tests.training.test_resuming import run_python

# Trainers of transformers want it, whatever the machine.
pytestmark = pytest.mark.filterwarnings("ignore:'pin_memory' argument:UserWarning")

EXAMPLES = Path(__file__).parents[1] / "examples" / "trl"
Chats = list[list[dict[str, str]]]
ITEMS = [
    {
        "item_id": f"tea-{n}",
        "prompt": f"How do I brew tea {n}?",
        "context": ("I am nine.", "I am in a hurry.", "")[n],
        "preferences": ["Be short."] if n < 2 else [],
        "reference": "Pour hot water on the leaves.",
    }
    for n in range(3)
]


def shown(name: str, monkeypatch: pytest.MonkeyPatch, *more: str) -> Any:
    """Run an example on the demo's base model, and return its trainer."""
    monkeypatch.setattr(sys, "argv", [name, str(base_model()), *more])
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["trainer"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Conversations to learn, as TRL has them."""
    file = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    turns = [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Pour water."}]
    file.write_text(f"{json.dumps({'messages': turns})}\n" * 8)
    return file


def sft(texts: Path, *, adapter: Any = None, **how: Any) -> Any:
    """A trainer of TRL that learns these texts in some steps."""
    from datasets import load_dataset
    from trl import SFTConfig, SFTTrainer

    args = {"max_steps": 2, "learning_rate": 1e-2, "logging_steps": 1, "report_to": "none"}
    return SFTTrainer(
        str(base_model()),
        args=SFTConfig(output_dir="sft", use_cpu=True, bf16=False, **{**args, **how}),
        train_dataset=load_dataset("json", data_files=str(texts), split="train"),
        peft_config=adapter,
    )


def first(chats: Chats) -> list[str]:
    """Judge that what is shown first is better: a tie in both places."""
    return ["response_a"] * len(chats)


def logged(trainer: Any, key: str) -> dict[int, float]:
    """What a trainer logged under a key, by step."""
    return {one["step"]: one[key] for one in trainer.state.log_history if key in one}


def test_importing_it_loads_neither_torch_nor_trl() -> None:
    code = "import sys, mipo_eval.trl; print({'torch', 'trl', 'transformers'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_examples_have_about_ten_lines() -> None:
    for file in EXAMPLES.glob("*.py"):
        code = file.read_text().split('"""', 2)[2]
        assert len([line for line in code.splitlines() if line.strip()]) <= 14, file


def test_the_example_of_pairs_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = shown("pairs", monkeypatch)
    assert trainer.state.global_step >= 1
    row = trainer.train_dataset[0]
    assert {"prompt_ids", "chosen_ids", "rejected_ids"} <= row.keys()


def test_pairs_of_a_function_are_counted_and_found_again(caplog: pytest.LogCaptureFixture) -> None:
    asked = 0

    def answers(chats: Chats) -> list[str]:
        nonlocal asked
        asked += len(chats)
        return [f"{chat[-1]['content']} {n}" for n, chat in enumerate(chats)]

    model = CallableBackend(answers, "echo")
    first = MipoDataset(model, ITEMS, n_negatives=2)
    assert first.column_names == ["prompt", "chosen", "rejected"]
    assert len(first) == 4  # two items have a context
    assert asked == 2 * 3
    assert first.info.description == "4 pairs of 3 items; dropped: 1 x no context"
    assert "4 pairs of 3 items; dropped" in caplog.text
    prompt, chosen, rejected = first[0].values()
    assert prompt[0]["role"] == "user"
    assert "I am nine." in prompt[0]["content"]
    assert "I am nine." in chosen[0]["content"]
    assert "I am nine." not in rejected[0]["content"]
    assert MipoDataset(model, ITEMS, n_negatives=2).to_list() == first.to_list()
    assert asked == 2 * 3
    other = MipoDataset(model, ITEMS, negatives="random")
    assert "I am in a hurry." in other[0]["rejected"][0]["content"]
    assert asked == 2 * 3 + 2  # the chosen ones were there
    with pytest.raises(ConfigError, match="temperature"):
        MipoDataset(model, ITEMS, temperature=0.5)
    with pytest.raises(ConfigError, match="'nearest' is not known; known: missing, random"):
        MipoDataset(model, ITEMS, negatives="nearest")


def test_the_example_of_win_rates_logs_them(monkeypatch: pytest.MonkeyPatch, texts: Path) -> None:
    trainer = shown("win_rate", monkeypatch, str(texts))
    rates = logged(trainer, "eval_win_rate_half_ties")
    assert list(rates) == [2, 4]
    low, high = (logged(trainer, f"eval_win_rate_half_ties_{end}") for end in ("low", "high"))
    assert all(0 <= low[step] <= rates[step] <= high[step] <= 100 for step in rates)
    assert logged(trainer, "eval_judged") == {2: 8, 4: 8}
    assert logged(trainer, "eval_unscored") == {2: 0, 4: 0}
    # What learns to say one thing to everybody loses.
    assert rates[4] < 50
    assert len(Path("sft/win_rate/step-4.jsonl").read_text().splitlines()) == 8
    with Store.open("store.db", mode="read") as store:
        assert {run.model for run in list_runs(store)} == {f"step-{n}.jsonl" for n in (0, 2, 4)}


def test_training_is_the_same_beside_a_callback(
    texts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def trained(*, judged: bool) -> Any:
        trainer = sft(texts)
        if judged:
            trainer.add_callback(WinRateCallback(trainer, ITEMS, first, every=1))
        trainer.train()
        return trainer

    alone, beside = trained(judged=False), trained(judged=True)
    for key in ("loss", "mean_token_accuracy"):  # the second is TRL's own, gathered by step
        assert len(logged(alone, key)) == 2
        assert logged(beside, key) == logged(alone, key)
    assert logged(beside, "eval_unscored") == {1: 1, 2: 1}  # nobody said what tea-2 wants
    assert "step 2: 1 of 3 items have no verdict (1 x item has no preferences)" in caplog.text
    assert logged(beside, "eval_tie_rate") == {1: 100, 2: 100}
    assert logged(beside, "eval_win_rate_half_ties") == {1: 50, 2: 50}
    assert beside.model.training
    with pytest.raises(AttributeError):
        _ = WinRateCallback(beside, ITEMS, "checker").nothing


def test_an_adapter_answers_without_its_bases_habits(texts: Path) -> None:
    from peft import LoraConfig

    def answers(penalty: float) -> str:
        how = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
        trainer = sft(texts, adapter=how)
        habits = trainer.model.get_base_model().generation_config
        habits.repetition_penalty = penalty
        trainer.add_callback(WinRateCallback(trainer, ITEMS, first, every=1))
        trainer.train()
        assert list(logged(trainer, "eval_judged")) == [1, 2]
        assert trainer.model.get_base_model().generation_config is habits
        return Path("sft/win_rate/step-2.jsonl").read_text()

    assert answers(5.0) == answers(1.0)


def test_another_entrant_is_met_from_the_start(texts: Path) -> None:
    trainer = sft(texts)
    trainer.add_callback(WinRateCallback(trainer, ITEMS, first, against="reference"))
    trainer.train()
    assert list(logged(trainer, "eval_tie_rate")) == [0, 2]


def test_a_judge_that_fails_is_counted_and_ends_nothing(
    texts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with OpenAIServer(script=expired_key()) as server:
        trainer = sft(texts, max_steps=1)
        judge = f"openai:judge@{server.url}"
        callback = WinRateCallback(trainer, ITEMS, judge, every=1, max_new_tokens=8)
        trainer.add_callback(callback)
        trainer.train()
    assert logged(trainer, "eval_unscored") == {1: 3}
    assert logged(trainer, "eval_judged") == {1: 0}
    assert logged(trainer, "eval_win_rate_half_ties") == {}
    assert "3 of 3 items have no verdict (2 x call failed: auth" in caplog.text


def test_nothing_is_asked_when_the_budget_is_used_up(
    texts: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Path("prices.yaml").write_text(
        "as_of: 2027-01-01\nmodels: {judge: {input: 1000, output: 1000}}\n"
    )
    monkeypatch.setenv("MIPO_EVAL_PRICES", str(Path("prices.yaml").resolve()))
    dear = {"prompt_tokens": 500, "completion_tokens": 1, "total_tokens": 501}
    reply = json_act({**completion("response_a"), "usage": dear})
    with OpenAIServer(script=lambda _: reply) as server:
        trainer = sft(texts, max_steps=4)
        judge = f"openai:judge@{server.url}"
        callback = WinRateCallback(trainer, ITEMS, judge, every=1, max_cost=3)
        trainer.add_callback(callback)
        trainer.train()
        asked = sum(call.method == "POST" for call in server.calls)
    spent = logged(trainer, "eval_judge_cost")
    assert list(spent) == [1, 2]
    assert spent[2] == pytest.approx(0.501 * asked)
    assert asked == 4
    assert logged(trainer, "eval_judged") == {1: 2, 2: 0}
    assert "step 2 is not judged: the budget of $3 is used up" in caplog.text


TWO = """
import json, sys
from trl import DPOConfig, DPOTrainer
from mipo_eval.trl import MipoDataset, WinRateCallback

pairs = MipoDataset(sys.argv[1], "demo", limit=8)
how = {"per_device_train_batch_size": 2, "learning_rate": 1e-3, "max_steps": 2, "logging_steps": 1}
args = DPOConfig(output_dir="two", report_to="none", use_cpu=True, bf16=False, **how)
trainer = DPOTrainer(sys.argv[1], args=args, train_dataset=pairs)
trainer.add_callback(WinRateCallback(trainer, "demo", "checker", every=2, limit=5))
trainer.train()
assert trainer.accelerator.num_processes == 2
if trainer.is_world_process_zero():
    print(json.dumps([len(pairs), trainer.state.log_history]))
"""


@pytest.mark.slow
def test_two_processes_draw_once_and_share_the_answers() -> None:
    Path("two.py").write_text(TWO)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    both = run_python(*launch, "two.py", str(base_model()), ACCELERATE_USE_CPU="true")
    assert both.returncode == 0, both.stderr
    pairs, history = json.loads(both.stdout.splitlines()[-1])
    assert pairs == 8
    assert history[0]["loss"] == pytest.approx(0.6931, abs=1e-4)
    (judged,) = (one["eval_judged"] for one in history if "eval_judged" in one)
    assert judged == 5
    answers = Path("two/win_rate/step-2.jsonl").read_text().splitlines()
    assert len({json.loads(line)["item_id"] for line in answers}) == 5


def test_a_resumed_training_needs_the_first_answers(texts: Path) -> None:
    sft(texts, save_steps=2).train()
    again = sft(texts, max_steps=3)
    again.add_callback(WinRateCallback(again, ITEMS, "checker"))
    with pytest.raises(
        ConfigError, match=r"step-0.jsonl is missing, and the policy has changed since"
    ):
        again.train(resume_from_checkpoint=True)


def test_what_a_callback_cannot_do_is_said_first(texts: Path) -> None:
    trainer = sft(texts)
    for how, told in (
        ({"every": 0}, "every=0"),
        ({"judge": "nobody"}, "unknown judge 'nobody'"),
        ({"judge": None}, "has no judge of its own"),
        ({"judge": "family"}, "'family' depends on the model"),
        ({"items": "mcq"}, "the answers of suite mcq are right or wrong"),
    ):
        with pytest.raises(ConfigError, match=told):
            WinRateCallback(trainer, **{"items": ITEMS, "judge": "checker", **how})


def test_the_example_of_rewards_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = shown("rewards", monkeypatch)
    for kind in ("judge", "mi"):
        assert list(logged(trainer, f"rewards/{kind}/mean")) == [2]
        assert list(logged(trainer, f"{kind}/unscored")) == [2]
    assert 1 <= logged(trainer, "rewards/judge/mean")[2] <= 5
    assert logged(trainer, "rewards/mi/mean")[2] != 0


def given(*kinds: Any, items: Any = ITEMS, texts: list[str], **how: Any) -> list[Any]:
    """What reward functions say of texts, asked as TRL asks them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_model())
    if "mi" in kinds:
        how["model"] = AutoModelForCausalLM.from_pretrained(base_model()).train()
    columns: dict[str, Any] = PromptDataset(items)[:]
    ids = [tokenizer(text)["input_ids"] for text in texts]
    columns |= {"prompts": columns.pop("prompt"), "completion_ids": ids, "completions": texts}
    told: dict[str, float] = {}
    found = []
    for one in reward_funcs(*kinds, tokenizer=tokenizer, **how):
        value = one(**columns, log_metric=told.__setitem__)
        found.append(asyncio.run(value) if asyncio.iscoroutine(value) else value)
    assert told == {
        f"{kind}/unscored": v.count(None) / 3 for kind, v in zip(kinds, found, strict=True)
    }
    if "mi" in kinds:
        assert how["model"].training
    return found


def test_what_is_not_known_is_none() -> None:
    def judge(chats: Chats) -> list[str]:
        return ["4" if "kind" in chat[-1]["content"] else "?" for chat in chats]

    texts = ["Be kind.", "Be brief.", "Be kind."]
    rated, told, right = given("judge", "mi", "exact", texts=texts, judge=judge)
    assert rated == [4.0, None, None]  # no number was said; there is nothing to rate by
    assert None not in told[:2]
    assert told[2] is None  # no context
    assert right == [None] * 3  # no question with an answer


def test_right_answers_are_rewarded() -> None:
    about = {"meta": {"kind": "number"}, "reference": "5"}
    sums = [{"item_id": str(n), "prompt": "2 + 3?", **about} for n in range(3)]
    sums[2]["reference"] = ""
    assert given("exact", items=sums, texts=["It is 5", "It is 6", "5"]) == [[1.0, 0.0, None]]


def test_what_rewards_need_is_said(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    for kinds, told in (
        (["judge"], "needs a judge: judge=NAME"),
        (["mi"], "needs the loaded model that is trained"),
        (["luck"], "unknown reward 'luck'; known: judge, mi, exact"),
    ):
        with pytest.raises(ConfigError, match=told):
            reward_funcs(*kinds, tokenizer=tokenizer)
    (exact,) = reward_funcs("exact", tokenizer=tokenizer)
    with pytest.raises(ConfigError, match="needs the column 'item': train on a PromptDataset"):
        exact(prompts=[[]], completions=[[]], completion_ids=[[1]])
