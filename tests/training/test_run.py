"""A training that ends early says how, and the pair report measures what it says it does."""

import gc
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.errors import DataError
from mipo_eval.models.spec import parse_model
from mipo_eval.records import Item
from mipo_eval.store import Store
from mipo_eval.store.trainings import Training, list_trainings
from mipo_eval.tasks.items import write_items
from mipo_eval.tasks.likelihood import ScoringModel
from mipo_eval.tasks.suites import Suite, find_suite
from mipo_eval.training import run, watch
from mipo_eval.training.card import fallen_away, likelihood_figures, pair_report
from mipo_eval.training.data import training_items
from mipo_eval.training.recipes import load_recipe
from mipo_eval.training.run import TrainingRequest, train
from mipo_eval.training.trainer import TrainingExample, TrainingExamples
from tests.servers.openai_server import OpenAIServer, ok
from tests.training.jobs import examples, weights


class Halting:
    """Progress that stops the work when the training has come to a step, as Ctrl-C would."""

    def __init__(self, *, at: int | None = None) -> None:
        self._at, self._stage, self._done = at, "", 0
        self.warned: list[str] = []

    def start(self, what: str, total: int, status: Any = None) -> None:
        self._stage, self._done = what, 0

    def advance(self, units: int) -> None:
        self._done += units
        if self._stage == "training" and self._at is not None and self._done >= self._at:
            raise KeyboardInterrupt

    def finish(self) -> None: ...

    def warn(self, text: str) -> None:
        self.warned.append(text)


@pytest.fixture
def request_of(tiny_model: Path) -> Iterator[TrainingRequest]:
    """SFT on twelve items, answered by a server."""
    items = [
        Item(item_id=f"i{n}", prompt=f"Tea {n}?", context=f"I am {n}.", group_id=f"g{n}")
        for n in range(12)
    ]
    write_items(Path("tea.jsonl"), items)
    overrides = ("lr=1e-2", "save_steps=1", "optimization.epochs=2")
    with OpenAIServer(lambda call: ok(call.body["messages"][-1]["content"][-8:])) as server:
        suite = find_suite("tea.jsonl")
        recipe = load_recipe("sft", overrides=overrides)
        yield TrainingRequest(
            recipe=recipe,
            model=parse_model(str(tiny_model)),
            sampling_model=parse_model(f"openai:judge@{server.url}"),
            suite=suite,
            data=tuple(training_items(suite, Path(), recipe.items)),
            out=Path("halted"),
            seed=0,
        )


def _stored(store: Store) -> Training:
    return list_trainings(store)[0]


def test_a_training_that_was_interrupted_continues_to_the_same_weights(
    request_of: TrainingRequest,
) -> None:
    with Store.open("a.db") as store:
        with pytest.raises(KeyboardInterrupt):
            train(store, request_of, Halting(at=4))
        assert (_stored(store).status, _stored(store).reason) == ("stopped", "interrupted")
        assert _stored(store).checkpoint is None
        assert _stored(store).pair_report is not None
        done = train(store, request_of, Halting())
        assert (done.status, done.reason, done.checkpoint) == ("done", None, "halted")
    with Store.open("b.db") as store:
        straight = train(store, replace(request_of, out=Path("straight")), Halting())
    assert straight.training_id == done.training_id, "where it is written decides nothing"
    first, second = weights(Path("halted")), weights(Path("straight"))
    assert all((first[name] == second[name]).all() for name in first)


@pytest.mark.parametrize(
    ("method", "set_", "dropped", "found", "said"),
    [
        ("sft", (), {"cut at the length limit": 2}, 8, None),
        (
            "sft",
            ("sampling.max_tokens=64",),
            {"cut at the length limit": 3},
            7,
            "only 7 of 10 examples can be learned from (3 x cut at the length limit): raise "
            "sampling.max_tokens (now 64) or ask for shorter answers (--query)",
        ),
        (
            "mipo-missing",
            ("pairs.n_negatives=3",),
            {"chosen: empty": 1, "rejected: equal to the chosen response": 2},
            7,
            "only 14 of 30 pairs can be learned from (9 x rejected: cut at the length limit, 2 x "
            "rejected: equal to the chosen response, 1 x chosen: empty): raise sampling.max_tokens "
            "(now 256) or ask for shorter answers (--query); raise sampling.temperature (now 1)",
        ),
        (
            "mipo-missing",
            (),
            {"chosen: empty": 4},
            6,
            "only 6 of 10 pairs can be learned from (4 x chosen: empty): look at the responses",
        ),
    ],
)
def test_pairs_that_fall_away_are_said_before_the_training(
    method: str, set_: tuple[str, ...], dropped: dict[str, int], found: int, said: str | None
) -> None:
    recipe = load_recipe(method, overrides=set_)
    n = recipe.pairs.n_negatives if recipe.pairs else 1
    lost = {"rejected: cut at the length limit": 9} if n > 1 else {}
    item = Item(item_id="a", prompt="Tea?", context="I am brief.")
    example = TrainingExample(
        item=item, prompt=(), bare_prompt=(), chosen="Yes.", rejected=("No.",) * min(n, 2)
    )
    made = TrainingExamples(
        examples=(example,) * found, items=10, dropped=dropped, dropped_negatives=lost
    )
    suite = Suite(name="tea", about="", tasks=())
    assert fallen_away(made, recipe, suite) == said


def test_a_training_at_work_says_so(
    request_of: TrainingRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_TOUCH_SECONDS", 0.0)
    seen: dict[str, list[datetime]] = {}

    class Looking(Halting):
        def advance(self, units: int) -> None:
            super().advance(units)
            assert _stored(store).status == "running"
            seen.setdefault(self._stage, []).append(_stored(store).updated_at)

    with Store.open("a.db") as store:
        train(store, request_of, Looking())
    drawn, *others = seen
    assert "responses of" in drawn
    assert others == ["reading the pairs with the base model", "training"]
    for times in seen.values():
        assert times == sorted(set(times))
    assert len(seen["training"]) > 2


def test_what_decides_the_result_decides_the_id(request_of: TrainingRequest) -> None:
    fewer = replace(request_of.data[0], items=request_of.data[0].items[1:])
    others = [
        replace(request_of, seed=1),
        replace(request_of, recipe=load_recipe("sft")),
        replace(request_of, held_out=request_of.data),
        replace(request_of, data=(fewer,)),
    ]
    assert len({one.training_id for one in (request_of, *others)}) == 5
    more_often = load_recipe("sft", overrides=["lr=1e-2", "save_steps=7", "optimization.epochs=2"])
    assert replace(request_of, recipe=more_often).training_id == request_of.training_id
    told = replace(request_of, recipe=load_recipe("sft", overrides=["system=told.txt"]))
    named = set()
    for text in ("Be kind.", "Be brief.", "Be brief.\n"):
        Path("told.txt").write_text(text)
        named.add(told.training_id)
    assert len(named - {request_of.training_id}) == 2, "a file is its text"


def test_no_model_is_in_memory_when_the_training_begins(
    request_of: TrainingRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report has read with the base model, and where it trains in shards there is no room."""
    from transformers import PreTrainedModel

    def models() -> set[int]:
        return {id(one) for one in gc.get_objects() if isinstance(one, PreTrainedModel)}

    gc.collect()
    before, left = models(), []

    def method(_algorithm: str) -> Any:
        return lambda _job, _settings: left.append(models() - before) or {}

    monkeypatch.setattr(run, "load_method", method)
    monkeypatch.setattr(run, "_finish", lambda *_: None)
    with Store.open("store.db") as store:
        done = train(store, request_of, Halting())
    assert (done.pair_report or {})["measured"] == 12, "the model was there"
    assert left == [set()]


def test_the_report_counts_and_measures(tiny_model: Path) -> None:
    found = [replace(one, rejected=("no", "not at all")) for one in examples()]
    made = TrainingExamples(examples=tuple(found), items=14, dropped={"chosen: empty": 2})
    report = pair_report(made, ScoringModel.load(str(tiny_model)), seed=0)
    assert (report["items"], report["examples"], report["pairs"]) == (14, 12, 24)
    assert report["dropped"] == {"chosen: empty": 2}
    assert report["measured"] == 12
    assert report["rejected_characters"] == (2 + 10) / 2
    assert len(report["shown"]) == 3
    assert report == pair_report(
        replace(made, examples=tuple(reversed(found))), ScoringModel.load(str(tiny_model)), seed=0
    )
    assert "measured" not in pair_report(made, None, seed=0)


def test_figures_of_prompts_without_contexts_are_absent_not_zero(tiny_model: Path) -> None:
    found = [replace(one, bare_prompt=one.prompt, rejected=("no",)) for one in examples()]
    figures = likelihood_figures(found, ScoringModel.load(str(tiny_model)))
    assert figures["pmi_chosen"] is None
    assert figures["pmi_rejected"] is None
    assert figures["ranked_correctly"] is not None


def test_what_the_context_adds_is_what_was_recorded_for_real_weights(shared_data: Path) -> None:
    """PMI of each response under its own context, and the ranking, from an independent matrix."""
    folder = shared_data / "stories260k"
    truth = json.loads((folder / "GROUND_TRUTH_mi_dev.json").read_text())
    scoring = ScoringModel.load(str(folder / "hf"), dtype="float64")
    # The recorded numbers are of plain text; the end token of a response adds its own.
    scoring.tokenizer.chat_template = (
        "{{ bos_token }}{{ messages[0]['content'] }}{% if messages|length > 1 %} "
        "{{ messages[1]['content'] }}{% endif %}"
    )

    def turn(text: str) -> tuple[dict[str, str], ...]:
        return ({"role": "user", "content": text},)

    responses, contexts = truth["responses"], truth["contexts"]
    found = [
        TrainingExample(
            item=Item(item_id=str(n), prompt=truth["prompt"], context=context),
            prompt=turn(f"{context} {truth['prompt']}"),
            bare_prompt=turn(truth["prompt"]),
            chosen=responses[n],
            rejected=(responses[(n + 1) % 4],),
        )
        for n, context in enumerate(contexts)
    ]
    figures = likelihood_figures(found, scoring)
    matrix = truth["sum_logprob_matrix"]
    without = truth["sum_logprob_without_context"]
    ranked = [matrix[n][n] > matrix[n][(n + 1) % 4] for n in range(4)]
    rejected = [matrix[n][(n + 1) % 4] - without[(n + 1) % 4] for n in range(4)]
    assert figures["ranked_correctly"] == sum(ranked) / 4
    # The end token's own likelihood under two prompts differs by little; all else is exact.
    expected = sum(truth["pointwise_conditional_mi"]) / 4
    assert figures["pmi_chosen"] == pytest.approx(expected, abs=0.5)
    assert figures["pmi_rejected"] == pytest.approx(sum(rejected) / 4, abs=0.5)
    assert figures["pmi_chosen"] > figures["pmi_rejected"] + 3


@pytest.mark.parametrize("choose_by", ["satisfied:checker", "loss"])
def test_without_a_held_out_pair_only_a_choice_by_loss_ends(
    request_of: TrainingRequest, monkeypatch: pytest.MonkeyPatch, choose_by: str
) -> None:
    held_out = request_of.data

    class Maker:
        def make(self, data: Any) -> str:
            if data is held_out:
                raise DataError("none of 19 items gives a preference pair")
            return "examples"

    monkeypatch.setattr(run, "example_maker", lambda *_: Maker())
    items = replace(request_of.recipe.items, choose_by=choose_by)
    recipe = replace(request_of.recipe, items=items)
    asked = replace(request_of, recipe=recipe, data=(), held_out=held_out)
    progress = Halting()
    with Store.open("s.db") as store:
        if choose_by == "loss":
            with pytest.raises(DataError, match="none of 19 items"):
                run.make_examples(store, asked, progress)
        else:
            assert run.make_examples(store, asked, progress) == ("examples", None)
            assert progress.warned == [
                "there will be no held-out loss: none of 19 items gives a preference pair"
            ]
