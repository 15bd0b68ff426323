"""What judges said, read back from PostgreSQL as from SQLite."""

import asyncio

from mipo_eval.judges.judge import Judge
from mipo_eval.judges.people import people_pairs
from mipo_eval.judges.presets import load_judge
from mipo_eval.judges.run import TextPair, choose, rate
from mipo_eval.models.base import ScriptedBackend
from mipo_eval.records import text_key
from mipo_eval.reports.agreement import Families, agreements, family_tests, judge_rows, judges_named
from mipo_eval.reports.correction import correct, store_labels
from mipo_eval.store import Store
from mipo_eval.store.engine import now
from mipo_eval.store.judges import Validation, failing_judges, find_judge, put_validation
from mipo_eval.store.verdicts import remarks_on
from tests.reports.judged import ITEMS, add_chooser, add_rater, add_run, text_of

MODELS = ["qwen-1b", "llama-1b"]


def test_judges_on_postgres(postgres_url: str) -> None:
    with Store.open(postgres_url) as store:
        runs = [add_run(store, model) for model in MODELS]
        key = add_rater(store, "qwen-j", MODELS, lambda m, n, a: 3 + n % 2 + ("qwen" in m))
        add_rater(store, "llama-j", MODELS, lambda m, n, a: 3 + n % 2 + ("llama" in m))
        said = {n: ("a" if n % 2 else "b",) for n in range(10)}
        add_chooser(store, "ann", said, model="qwen-1b", human=True)
        assert len(agreements(store, runs, judges_named(store, [])).pairs) == 3
        (test,) = family_tests(
            store, runs, judges_named(store, ["qwen-j", "llama-j"]), Families({})
        )
        assert test.preference.value == 2
        labels = store_labels(store, ["people"])
        assert correct(store, runs[0], find_judge(store, "qwen-j"), labels).labelled == 10
        assert len(people_pairs(store, ["ann"])) == 10
        for pairs, failings in ((5, ["constant"]), (50, [])):
            validation = Validation(
                judge_key=key,
                data="d",
                data_key=str(pairs),
                figures={"pairs": pairs},
                failings=failings,
                created_at=now(),
            )
            put_validation(store, validation)
        assert failing_judges(store) == {}
        assert {row.judge.name: row.ratings for row in judge_rows(store)}["qwen-j"] == 144


def test_stored_replies_on_postgres(postgres_url: str) -> None:
    judges = [
        Judge(
            name=protocol,
            spec="scripted",
            backend=ScriptedBackend(lambda r: "response_a" if "response_a" in r.slots else "4"),
            prompt=load_judge("openai:m@http://localhost:1", protocol=protocol).prompt,  # type: ignore[arg-type]
            protocol=protocol,  # type: ignore[arg-type]
        )
        for protocol in ("rubric", "pairwise")
    ]
    with Store.open(postgres_url) as store:
        add_run(store, "qwen-1b")
        pairs = [(item, text_of("qwen-1b", n)) for n, item in enumerate(ITEMS[:3])]
        asyncio.run(rate(store, judges[0], pairs))
        duels = [TextPair(item, text, item.reference or "") for item, text in pairs]
        asyncio.run(choose(store, judges[1], duels))
        told = remarks_on(store, ITEMS[0].key, text_key(text_of("qwen-1b", 0)))
        assert [(one.judge, one.value, one.preference, one.shown_first) for one in told] == [
            ("rubric", "4", 0, None),
            ("rubric", "4", 1, None),
            ("pairwise", "this", None, "this"),
            ("pairwise", "other", None, "other"),
        ]
