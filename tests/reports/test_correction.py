"""Win rates corrected by people's labels in the store or in a file."""

import json
from pathlib import Path

import pytest

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.judges.correction import prediction_powered, rogan_gladen
from mipo_eval.judges.people import people_pairs
from mipo_eval.records import Run
from mipo_eval.reports.correction import correct, correction_json, file_labels, store_labels
from mipo_eval.stats import Crossed
from mipo_eval.store import Store
from mipo_eval.store.items import get_items
from mipo_eval.store.judges import find_judge, find_people
from mipo_eval.store.responses import paired_texts
from tests.reports.judged import ITEMS, add_chooser, add_rater, add_run, open_store, text_of


def generous(model: str, number: int, aspect: int) -> int:
    """Every response but the last four beats its reference."""
    return 3 if model == "reference" else 2 if number >= 20 else 4


TRUTH = {n: ("b",) if n % 3 == 0 or n >= 20 else ("a",) for n in range(0, 24, 2)}
"""What people say of every second item: a third of the judge's wins are losses."""


def judged(tmp_path: Path) -> tuple[Store, Run]:
    store = open_store(tmp_path)
    run = add_run(store, "qwen-1b")
    add_rater(store, "j", ["qwen-1b"], generous)
    return store, run


def test_both_corrections_are_those_of_the_formulas(tmp_path: Path) -> None:
    store, run = judged(tmp_path)
    with store:
        add_chooser(store, "ann", TRUTH, model="qwen-1b", human=True)
        labels = store_labels(store, ["ann"])
        found = correct(store, run, find_judge(store, "j"), labels)
        items = [item for _, item in get_items(store, run.list_key)]
    judge = [1.0 if n < 20 else 0.0 for n in range(24)]
    human = [{"a": 1.0, "b": 0.0}[TRUTH[n][0]] if n in TRUTH else None for n in range(24)]
    assert found.judged.value == pytest.approx(100 * 20 / 24)
    assert (found.people.n, found.labelled) == (12, 12)
    assert found.agreement == pytest.approx(100 * 8 / 12)
    groups = [Crossed(item.group, item.user_id) for item in items]
    assert found.prediction_powered == prediction_powered(judge, human, groups)
    assert found.rogan_gladen == rogan_gladen(judge, human, groups)
    assert found.prediction_powered is not None
    assert found.prediction_powered.value < 60 < (found.judged.value or 0)
    document = correction_json(found)
    assert document["prediction_powered"]["value"] == found.prediction_powered.value
    assert set(document["assumptions"]) == {"prediction_powered", "rogan_gladen"}


def test_labels_of_a_file_are_found_by_their_texts(tmp_path: Path) -> None:
    store, run = judged(tmp_path)
    rows = [
        {
            "prompt": ITEMS[0].prompt,
            "first": ITEMS[0].reference,
            "second": text_of("qwen-1b", 0),
            "label": "a",
        },
        {
            "prompt": ITEMS[1].prompt,
            "chosen": text_of("qwen-1b", 1),
            "rejected": ITEMS[1].reference,
        },
        {"prompt": ITEMS[2].prompt, "first": "other", "second": "texts", "label": "a"},
        {"prompt": ITEMS[3].prompt, "first": "x", "second": "y", "label": "tie"},
    ]
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with store:
        labels = file_labels(store, run, path)
        pairs = {row.pair for row in paired_texts(store, run)}
        assert {p.item_key: label for p, label in labels.items() if p in pairs} == {
            ITEMS[0].key: "b",
            ITEMS[1].key: "a",
        }
        found = correct(store, run, find_judge(store, "j"), labels)
    assert (found.labelled, found.agreement) == (2, 50)
    assert found.rogan_gladen is None
    assert "not better than chance" in found.absent["rogan_gladen"]


def test_against_another_run(tmp_path: Path) -> None:
    store, run = judged(tmp_path)
    with store:
        other = add_run(store, "llama-1b")
        add_rater(store, "k", ["qwen-1b", "llama-1b"], lambda m, n, a: 4 if "qwen" in m else 2)
        labels = dict.fromkeys([row.pair for row in paired_texts(store, run, other)][:4], "a")
        found = correct(store, run, find_judge(store, "k"), labels, other=other)  # type: ignore[arg-type]
        assert (found.judged.value, found.judged.n) == (100, 24)
        assert found.judged.signature.startswith(f"run:{run.run_id[:12]}|against:llama-1b-run")


def test_what_cannot_be_corrected_says_why(tmp_path: Path) -> None:
    store, run = judged(tmp_path)
    with store:
        judge = find_judge(store, "j")
        with pytest.raises(DataError, match=r"no label is about a pair that j .* judged"):
            correct(store, run, judge, {})
        add_rater(store, "idle", [], generous)
        with pytest.raises(DataError, match=r"idle .* has not judged run qwen-1b-run"):
            correct(store, run, find_judge(store, "idle"), {})
        with pytest.raises(
            ConfigError, match=r"'people' has labelled no pairs .*who have: nobody yet"
        ):
            store_labels(store, ["people"])


def test_pairs_that_people_labelled_are_a_set_for_validation(tmp_path: Path) -> None:
    store, _ = judged(tmp_path)
    with store:
        add_chooser(store, "ann", {0: ("a",), 1: ("b",), 2: ("a",)}, model="qwen-1b", human=True)
        add_chooser(store, "bob", {0: ("a",), 1: ("a",), 3: ("tie",)}, model="qwen-1b", human=True)
        add_chooser(store, "model", {4: ("a", "a")}, model="qwen-1b")
        assert len(find_people(store, ["people"])) == 2
        pairs = {pair.prompt: pair for pair in people_pairs(store, ["people"])}
        # They disagree on the second: nobody is ahead.
        assert set(pairs) == {ITEMS[n].prompt for n in (0, 2, 3)}
        for number, label in ((0, "ours"), (2, "ours"), (3, "tie")):
            pair = pairs[ITEMS[number].prompt]
            better = {"a": pair.first, "b": pair.second, "tie": "tie"}[pair.label]
            assert better == ("tie" if label == "tie" else text_of("qwen-1b", number))
            assert len(pair.annotators) == 2
            assert pair.preferences == ITEMS[number].preferences
        assert pairs[ITEMS[2].prompt].annotators[1] is None
        assert len(people_pairs(store, ["ann"])) == 3
        with pytest.raises(ConfigError, match=r"'zed' has labelled no pairs .*who have: ann, bob"):
            people_pairs(store, ["zed"])
