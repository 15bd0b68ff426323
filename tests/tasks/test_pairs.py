"""Labelled pairs by name: the published sets, prepared items, files of our own."""

import json
from collections import Counter
from pathlib import Path

import pytest

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.judges.labelled import first_of_each, mixed, pairs_key
from mipo_eval.records import Item
from mipo_eval.tasks.items import write_items
from mipo_eval.tasks.pairs import SETS, load_pairs, load_replies


def test_every_published_set_is_found_in_the_data_folder(shared_data: Path) -> None:
    made = {"ca", "prism", "everyday"}  # or have tests of their own
    published = [name for name in SETS if name not in made and "rewardbench" not in name]
    sizes = {name: len(load_pairs(name, shared_data)) for name in published}
    assert sizes == {"llmbar": 234, "judgebench": 270, "pandalm": 999, "psoups": 600}


def test_pairs_of_several_files_have_ids_of_their_own(shared_data: Path) -> None:
    pairs = load_pairs("llmbar", shared_data)
    assert len({pair.pair_id for pair in pairs}) == len(pairs)
    assert Counter(pair.subset for pair in pairs) == {"Adversarial/Neighbor": 134, "Natural": 100}
    few = first_of_each(pairs, 3)
    assert [pair.subset for pair in few] == ["Adversarial/Neighbor"] * 3 + ["Natural"] * 3
    assert first_of_each(pairs, None) == pairs


def test_the_chosen_response_is_not_always_the_first(shared_data: Path) -> None:
    pairs = load_pairs("psoups", shared_data)
    labels = Counter(pair.label for pair in pairs)
    assert labels["a"] + labels["b"] == 600
    assert 250 < labels["a"] < 350
    row = json.loads((shared_data / "psoups_alignx" / "student_phd.json").read_text())[0]
    first = pairs[0]
    assert (first.first if first.label == "a" else first.second) == row["chosen"]
    # The draw belongs to the pair: neither order nor number of pairs changes it.
    assert load_pairs("psoups", shared_data)[:50] == pairs[:50]
    assert mixed(reversed(pairs[:3]))[::-1] == mixed(pairs[:3])


@pytest.mark.parametrize("name", ["ca", "prism"])
def test_prepared_items_keep_what_their_user_did_not_choose(tmp_path: Path, name: str) -> None:
    items = [
        Item(
            item_id=f"{name}-{n}",
            prompt=f"q{n}",
            preferences=("Be brief.",),
            reference="chosen",
            user_id="u",
            group_id=f"g{n // 2}",
            meta={"rejected": "rejected"} if n else {},
        )
        for n in range(9)
    ]
    write_items(tmp_path / f"{name}-test.jsonl", items)
    pairs = load_pairs(name, tmp_path)
    assert [pair.pair_id for pair in pairs] == [f"{name}-{n}" for n in range(1, 9)]
    for pair in pairs:
        assert {pair.first, pair.second} == {"chosen", "rejected"}
        assert (pair.first if pair.label == "a" else pair.second) == "chosen"
        assert pair.preferences == ("Be brief.",)
    assert {pair.group for pair in pairs} == {"g0", "g1", "g2", "g3", "g4"}


def test_prepared_items_without_a_rejected_response_are_no_pairs(tmp_path: Path) -> None:
    write_items(tmp_path / "ca-test.jsonl", [Item(item_id="x", prompt="q", reference="r")])
    with pytest.raises(DataError, match="no item has the response that its user did not choose"):
        load_pairs("ca", tmp_path)


def test_a_file_of_pairs(tmp_path: Path) -> None:
    rows = [
        {"prompt": "q", "first": "x", "second": "y", "label": "b", "pair_id": "p1"},
        {"prompt": "q", "chosen": "x", "rejected": "y", "preferences": ["Be brief."]},
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second = load_pairs(str(path), tmp_path)
    assert (first.label, second.label, second.preferences) == ("b", "a", ("Be brief.",))
    changed = first.model_copy(update={"label": "a"})
    assert pairs_key([first]) != pairs_key([changed])


def test_replies_come_with_their_pairs(shared_data: Path) -> None:
    folder = shared_data / "llmbar" / "LLMBar"
    files = [
        folder / subset / "evaluators/GPT-4/Vanilla/result.json"
        for subset in ("Adversarial/Neighbor", "Natural")
    ]
    loaded = load_replies("llmbar", shared_data, files)
    assert tuple(reading.pair for reading in loaded) == load_pairs("llmbar", shared_data)
    with pytest.raises(DataError, match="contains pairs of llmbar, but no replies"):
        load_replies("llmbar", shared_data, [folder / "Natural" / "dataset.json"])
    with pytest.raises(DataError, match=r"the pair .* is in these files more than once"):
        load_replies("llmbar", shared_data, [files[0], files[0]])


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("mtbench", ConfigError, "known: llmbar, judgebench, pandalm, psoups, .*, ca, prism, or a"),
        ("llmbar", DataError, r"llmbar was not found: looked for .*dataset\.json; put its files"),
        ("pandalm", DataError, r"looked for .*testset-v1\.json"),
        ("judgebench", DataError, "looked for .*response_model="),
        ("psoups", DataError, r"looked for .*psoups_alignx.*psoups/\*\.json"),
        ("prism", DataError, "make it with `mipo-eval data prepare prism`"),
        ("no.jsonl", DataError, "is not there"),
    ],
)
def test_what_is_not_there_is_named(
    tmp_path: Path, name: str, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        load_pairs(name, tmp_path)
