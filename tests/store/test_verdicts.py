"""What a judge makes of a pair does not depend on what else is asked, or how it is looked up."""

from pathlib import Path
from typing import Any

from mipo_eval.records import Item, Rating
from mipo_eval.store import Store
from mipo_eval.store.items import put_list
from mipo_eval.store.judges import put_judge
from mipo_eval.store.verdicts import pair_verdicts, put_ratings, verdicts_of_all, verdicts_on
from mipo_eval.verdict import NOT_JUDGED, Pair
from tests.reports.judged import add_chooser, add_rater, add_run, open_store


def test_a_pair_alone_and_among_others(tmp_path: Path) -> None:
    """Of a tool that lets its judge choose and rate; one item has nothing to be rated on."""
    some = [Item(item_id="a", prompt="?", preferences=("Be kind.",)), Item(item_id="b", prompt="?")]
    key, texts = "t" * 32, ("x" * 32, "y" * 32)
    with Store.open(str(tmp_path / "s.db")) as store:
        put_list(store, [("tea", some)])
        put_judge(store, key, "tool", {"imported": "tool"})
        about: Any = {"judge": key, "item_key": some[0].key, "reason": None, "call_key": "c"}
        rated = zip(texts, (4, 2), strict=True)
        put_ratings(store, (Rating(text_key=t, aspect=0, rating=n, **about) for t, n in rated))
        pairs = [Pair(item.key, *texts) for item in some]
        together = pair_verdicts(store, key, pairs)
        assert together == [pair_verdicts(store, key, [pair])[0] for pair in pairs]
    assert [(one.winner, one.reason) for one in together] == [("a", None), (None, NOT_JUDGED)]


def test_a_run_is_looked_up_as_its_pairs_are(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        one, other = add_run(store, "qwen-1b"), add_run(store, "llama-1b")
        rater = add_rater(store, "rater", ["qwen-1b", "llama-1b"], lambda m, n, a: 1 + (n + a) % 5)
        chooser = add_chooser(store, "chooser", {0: ("a", "a"), 1: ("b",)}, model="qwen-1b")
        for second in (None, other):
            found = verdicts_of_all(store, one, second, [rater, chooser])
            rows = [row for row, _ in found]
            for key in (rater, chooser):
                for (row, said), (_, alone) in zip(
                    found, verdicts_on(store, rows, key), strict=True
                ):
                    assert said.get(key, alone) == alone, row
            assert all(rater in said for _, said in found)
