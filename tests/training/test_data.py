"""From items to examples: the prompts of training are those of evaluation, for every method."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from mipo_eval.errors import BackendError, ConfigError, DataError
from mipo_eval.keys import digest
from mipo_eval.models.chat import with_chat_form
from mipo_eval.models.lm_eval import Decoding, ModelOptions
from mipo_eval.models.spec import parse_model
from mipo_eval.models.thinking import CUT
from mipo_eval.records import Item
from mipo_eval.store import Store
from mipo_eval.tasks.items import write_items
from mipo_eval.tasks.suites import SUITES, Suite, SuiteTask, find_suite
from mipo_eval.training.data import ExampleMaker, TrainingItems, split_validation, training_items
from mipo_eval.training.logprobs import Codec
from mipo_eval.training.recipes import ItemSettings, load_recipe
from mipo_eval.training.trainer import TrainingExamples
from tests.servers.http import Act, Call
from tests.servers.openai_server import OpenAIServer, ok
from tests.small_models import make_model


class Quiet:
    """Counts what was drawn, and says nothing."""

    def __init__(self) -> None:
        self.done = 0

    def start(self, what: str, total: int, status: Any = None) -> None: ...

    def advance(self, units: int) -> None:
        self.done += units

    def finish(self) -> None: ...

    def warn(self, text: str) -> None: ...


def _wishes(count: int = 6) -> list[Item]:
    return [
        Item(
            item_id=f"w{n}",
            prompt=f"Question {n // 2}?",
            context=f"I am {n}.",
            reference="An answer.",
            group_id=f"g{n // 2}",
        )
        for n in range(count)
    ]


def _questions() -> list[Item]:
    return [
        Item(
            item_id=f"q{n}",
            prompt=f"What is {n} + {n}?",
            reference=str(2 * n),
            meta={"kind": "number", "solution": f"{n} and {n} make {2 * n}.\n#### {2 * n}"},
        )
        for n in range(4)
    ]


def _make(
    method: str, suite: Suite, items: list[Item], server: OpenAIServer, *overrides: str
) -> TrainingExamples:
    spec = parse_model(f"openai:judge@{server.url}")
    with Store.open("examples.db") as store:
        maker = ExampleMaker(
            recipe=load_recipe(method, overrides=overrides),
            suite=suite,
            model=spec,
            options=ModelOptions(),
            decoding=Decoding(temperature=1.0),
            store=store,
            progress=Quiet(),
            seed=0,
        )
        return maker.make([TrainingItems(task=suite.tasks[0], items=tuple(items))])


def _echo(call: Call) -> Act:
    return ok(f"said to: {call.body['messages'][-1]['content'][:400]}")


def test_prompts_of_training_are_those_of_generation(tmp_path: Path) -> None:
    """The rendered messages digest to what the engine says it asked."""
    folder = make_model(tmp_path / "wide", context=8192)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    spec = parse_model(str(folder))
    write_items(Path("w.jsonl"), _wishes())
    for suite, items in ((find_suite("w.jsonl"), _wishes()), (SUITES["gsm8k"], _questions())):
        task = suite.tasks[0]
        with Store.open("s.db") as store:
            maker = ExampleMaker(
                recipe=load_recipe("ppo-mi"),
                suite=suite,
                model=spec,
                options=ModelOptions(),
                decoding=Decoding(max_tokens=2),
                store=store,
                progress=Quiet(),
                seed=0,
            )
            asked = maker.draw(task, items, "responses")
            made = maker.make([TrainingItems(task=task, items=tuple(items))])
        assert len(made.examples) == len(items)
        for example in made.examples:
            text = tokenizer.apply_chat_template(
                list(example.prompt), tokenize=False, add_generation_prompt=True
            )
            assert asked[example.item.key].prompt_hash == digest(text)


@pytest.mark.parametrize("name", ["gemma", "llama3"])
def test_conversations_and_system_prompts_are_trained_on_as_they_are_asked(
    tmp_path: Path, name: str
) -> None:
    template = (Path(__file__).parents[1] / "templates" / f"{name}.jinja").read_text()
    folder = make_model(tmp_path / name, context=8192, template=template, bos=True)
    codec = Codec.of(with_chat_form(AutoTokenizer.from_pretrained(folder)))
    earlier = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    talks = [Item.model_validate({**one.model_dump(), "messages": earlier}) for one in _wishes(4)]
    write_items(Path("w.jsonl"), talks)
    for suite, items in ((find_suite("w.jsonl"), talks), (SUITES["gsm8k"], _questions())):
        task = suite.tasks[0]
        with Store.open("s.db") as store:
            maker = ExampleMaker(
                recipe=load_recipe("ppo-mi"),
                suite=suite,
                model=parse_model(str(folder)),
                options=ModelOptions(system="Be kind."),
                decoding=Decoding(max_tokens=2),
                store=store,
                progress=Quiet(),
                seed=0,
            )
            asked = maker.draw(task, items, "responses")
            made = maker.make([TrainingItems(task=task, items=tuple(items))])
        for example in made.examples:
            ids = codec.prompt(example.prompt)
            assert asked[example.item.key].prompt_hash == digest(codec.tokenizer.decode(ids))
            assert example.prompt[0]["content"].startswith("Be kind.")
            assert "Be kind." in codec.tokenizer.decode(ids)
        if suite.form == "query":
            assert list(made.examples[0].prompt[1:3]) == earlier
            assert list(made.examples[0].bare_prompt[1:3]) == earlier


def test_a_revision_comes_at_the_end_of_the_conversation() -> None:
    earlier = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    talks = [Item.model_validate({**one.model_dump(), "messages": earlier}) for one in _wishes(4)]
    with OpenAIServer(lambda call: ok(f"{len(call.body['messages'])}, {call.number}")) as server:
        made = _make("sft-revision", SUITES["ca"], talks, server)
        sent = [call.body["messages"] for call in server.calls if call.path.endswith("completions")]
    assert made.examples
    assert {len(messages) for messages in sent} == {3}
    assert all(messages[:2] == earlier for messages in sent)


def test_a_word_problem_is_asked_with_its_worked_examples() -> None:
    with OpenAIServer(_echo) as server:
        made = _make("rlvr", SUITES["gsm8k"], _questions(), server)
        assert server.chats == 0, "a method that learns from prompts has nothing drawn"
    prompt = made.examples[1].prompt
    assert [message["role"] for message in prompt] == ["system", *["user", "assistant"] * 8, "user"]
    assert prompt[-1]["content"] == "Q: What is 1 + 1?\nA:"
    assert made.examples[1].bare_prompt == prompt


def test_the_bare_prompt_leaves_the_context_out() -> None:
    with OpenAIServer(_echo) as server:
        made = _make("ppo-mi", SUITES["ca"], _wishes(), server)
    for example in made.examples:
        assert example.item.context in example.prompt[0]["content"]
        assert example.item.context not in example.bare_prompt[0]["content"]
        assert example.item.prompt in example.bare_prompt[0]["content"]


@pytest.mark.parametrize(
    ("suite", "items", "chosen"),
    [
        ("ca", _wishes(), "An answer."),
        ("gsm8k", _questions(), "0 and 0 make 0.\n#### 0"),
    ],
)
def test_what_learns_solutions_learns_those_of_the_data(
    suite: str, items: list[Item], chosen: str
) -> None:
    with OpenAIServer(_echo) as server:
        made = _make(
            "sft-solutions", SUITES[suite], [*items, Item(item_id="x", prompt="?")][:-1], server
        )
        assert server.chats == 0
    assert made.examples[0].chosen == chosen


def test_items_without_a_true_answer_are_counted() -> None:
    items = [*_wishes(2), Item(item_id="none", prompt="Why?", context="I ask.")]
    with OpenAIServer(_echo) as server:
        made = _make("sft-solutions", SUITES["ca"], items, server)
    assert (len(made.examples), made.items, made.dropped) == (2, 3, {"no true answer": 1})
    questions = [*_questions(), Item(item_id="open", prompt="Why?", meta={"kind": "number"})]
    with OpenAIServer(_echo) as server:
        made = _make("sft-gt", SUITES["gsm8k"], questions, server)
    assert (len(made.examples), made.items, made.dropped) == (4, 5, {"no true answer": 1})


@pytest.mark.parametrize(
    ("method", "suite", "items", "shown", "hidden"),
    [
        ("sft-revision", "ca", _wishes(), ("Question 0?", "I am 0.", "said as 0", "said as"), ""),
        ("sft-gt", "gsm8k", _questions(), ("What is 1 + 1?", "said as", "\n2\n"), "and 1 make"),
    ],
)
def test_a_revision_sees_what_it_is_to_improve(
    method: str, suite: str, items: list[Item], shown: tuple[str, ...], hidden: str
) -> None:
    """A response to another user's context, made for it; or the final answer and no solution."""

    def says(call: Call) -> Act:
        text = call.body["messages"][-1]["content"]
        if "Write only the new" in text:
            return ok(f"revised: {text}")
        return ok(f"said as {text.rpartition('I am ')[2].rstrip('.')} <|im_end|>")

    with OpenAIServer(says) as server:
        made = _make(method, SUITES[suite], items, server)
        asked = [call.body["messages"][-1]["content"] for call in server.calls if call.body]
    assert len(made.examples) == len(items)
    first = made.examples[suite == "gsm8k"]
    assert first.chosen is not None
    assert first.chosen.startswith("revised: ")
    for text in shown:
        assert text in first.chosen
    assert not hidden or hidden not in first.chosen
    assert "<|im_end|>" not in first.chosen, "a model's text ends no message of ours"
    assert not first.rejected
    if method == "sft-revision":
        own, others = re.findall(r"said as (\d)", first.chosen)
        assert (own, own != others) == ("0", True)
        assert any(f"I am {others}." in text and "Question 0?" in text for text in asked)
    revision_asked = first.prompt[-1]["content"]
    assert "Write only the new" not in revision_asked, "the original prompt is what is learned on"


@pytest.mark.parametrize(
    ("method", "suite", "items", "message"),
    [
        (
            "sft-revision",
            "gsm8k",
            _questions(),
            "use sft-gt, which rewrites them after it sees the tru",
        ),
        ("sft-gt", "ca", _wishes(), "needs questions with one final answer, .* use sft-revision"),
    ],
)
def test_a_revision_that_does_not_fit_names_the_one_that_does(
    method: str, suite: str, items: list[Item], message: str
) -> None:
    with OpenAIServer(_echo) as server:
        with pytest.raises(ConfigError, match=message):
            _make(method, SUITES[suite], items, server)
        assert server.chats == 0


def test_contrastive_methods_get_k_contexts_for_each_prompt() -> None:
    with OpenAIServer(_echo) as server:
        made = _make("sami", SUITES["ca"], _wishes(), server, "settings.contexts=4")
    contexts: dict[str, set[str]] = {}
    for example in made.examples:
        contexts.setdefault(example.item.prompt, set()).add(example.item.context)
        assert example.item.context in (example.chosen or "")
    assert {prompt: len(found) for prompt, found in contexts.items()} == {
        f"Question {n}?": 4 for n in range(3)
    }


def test_drawing_continues_where_it_stopped() -> None:
    """What was answered is stored; the server then refuses, until it does not."""
    refusing = True

    def breaks(call: Call) -> Act:
        late = int(call.body["messages"][-1]["content"].rpartition("I am ")[2].rstrip(".")) >= 256
        return Act(status=401) if refusing and late else _echo(call)

    with OpenAIServer(breaks) as server:
        with pytest.raises(BackendError, match="asks for a key"):
            _make("sft", SUITES["ca"], _wishes(270), server)
        refusing, asked = False, server.chats
        made = _make("sft", SUITES["ca"], _wishes(270), server)
        assert server.chats == asked + 14
    assert len(made.examples) == 270


def test_of_several_processes_one_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed for now is not asked again by the others: all learn from what one has stored."""
    items = _wishes()
    write_items(Path("w.jsonl"), items)
    suite = find_suite("w.jsonl")
    with OpenAIServer(_echo) as server:
        made = _make("sft", suite, items[:4], server)
        asked = server.chats
        monkeypatch.setenv("RANK", "1")
        other = _make("sft", suite, items, server)
        assert server.chats == asked == 4
    assert [one.item for one in other.examples] == [one.item for one in made.examples]


def test_a_validation_split_keeps_prompts_together() -> None:
    task = SuiteTask(name="t", source="t", lm_eval_task="t")
    data = [TrainingItems(task=task, items=tuple(_wishes(40)))]
    (train,), (held,) = split_validation(data, 0.25, seed=1)
    assert len(held.items) == 10
    assert not {item.group for item in train.items} & {item.group for item in held.items}
    assert {item.key for item in (*train.items, *held.items)} == {i.key for i in data[0].items}
    again = split_validation(
        [TrainingItems(task=task, items=tuple(reversed(_wishes(40))))], 0.25, 1
    )
    assert {item.key for item in again[1][0].items} == {item.key for item in held.items}
    with pytest.raises(DataError, match="at least two prompts"):
        split_validation([TrainingItems(task=task, items=tuple(_wishes(2)))], 0.5, seed=1)


def test_a_suites_training_items() -> None:
    (demo,) = training_items(SUITES["demo"], Path("data"), ItemSettings(limit=8))
    assert len(demo.items) == 8
    assert demo.task.name == "demo"
    write_items(Path("ca-train.jsonl"), _wishes())
    (prepared,) = training_items(SUITES["ca"], Path(), ItemSettings())
    assert [item.item_id for item in prepared.items] == [f"w{n}" for n in range(6)]


def test_a_question_of_two_data_sets_is_learned_from_once() -> None:
    """SVAMP's training part holds 700 questions of GSM8K's (PAPER.md, "Data")."""
    rows = {
        "gsm8k": [{"question": f"{n} + 1?", "answer": f"#### {n + 1}"} for n in range(5100)],
        "svamp": [{"Body": f"Tom has {n}.", "Question": "And?", "Answer": n} for n in range(700)],
    }
    for name, of_set in rows.items():
        Path(name).mkdir()
        lines = "".join(json.dumps(row) + "\n" for row in of_set)
        Path(name, "train.jsonl").write_text(lines)
    alone = training_items(SUITES["svamp"], Path(), ItemSettings())[0].items
    found = training_items(SUITES["math"], Path(), ItemSettings())
    assert (len(alone), [len(one.items) for one in found]) == (1400, [5000, 700])
    assert len({item.key for one in found for item in one.items}) == 5700


def test_training_questions_of_real_sets(shared_data: Path) -> None:
    wanted: Mapping[str, int] = {"gsm8k": 3, "arc_easy": 3}
    for name, count in wanted.items():
        (found,) = training_items(SUITES[name], shared_data, ItemSettings(limit=count))
        assert len(found.items) == count
        assert all("train" in item.item_id for item in found.items)


def test_what_was_thought_is_not_learned_from() -> None:
    items = _wishes()
    cut = items[0].prompt

    def thinks(call: Call) -> Act:
        asked = call.body["messages"][-1]["content"]
        if cut in asked:
            return ok("<think>hm", finish="length")
        return ok(f"<think>hm</think>\n\nsaid to: {asked[:400]}")

    write_items(Path("w.jsonl"), items)
    with OpenAIServer(thinks) as server:
        made = _make("mipo-missing", find_suite("w.jsonl"), items, server)
    assert made.examples
    for example in made.examples:
        for text in (example.chosen, *example.rejected):
            assert text is not None
            assert text.startswith("said to: ")
    assert dict(made.dropped)[f"chosen: {CUT}"] == sum(cut in item.prompt for item in items)
