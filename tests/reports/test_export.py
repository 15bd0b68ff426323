"""What is written: it comes back the same, and hostile text stays text."""

import csv
import html.parser
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.importers import read_path, store_runs
from mipo_eval.records import Item, Rating, Response, Run, Score, text_key
from mipo_eval.reports.export import (
    NAMES,
    TEXTS,
    column_names,
    in_latex,
    in_markdown,
    score_rows,
    table_of,
    to_csv,
    write,
)
from mipo_eval.reports.exported_run import ExportedItem, ExportedRun, annotations, load_run
from mipo_eval.reports.names import RowName
from mipo_eval.signature import join
from mipo_eval.store import Store, tables
from mipo_eval.store.items import put_list
from mipo_eval.store.judges import put_judge
from mipo_eval.store.responses import paired_texts, put_generation, put_responses
from mipo_eval.store.runs import list_runs, put_run, put_scores
from mipo_eval.store.verdicts import put_choices, put_ratings
from mipo_eval.verdict import Choice, Pair, PairVerdict, Shown, Verdict

HOSTILE = (
    '=cmd()|</td></script><script>alert("1")</script> <img src=x onerror=alert(1)> '
    "\\input{x} $_&#%^~"
)


def _score(metric: str, value: float | None, **more: Any) -> Score:
    signature = more.pop("signature", join(suite="s", judge="j", ties="win"))
    return Score(
        task=more.pop("task", "t"),
        metric=metric,
        value=value,
        n=4 if value else 0,
        signature=signature,
        **more,
    )


def _run(model: str, *scores: Score, run_id: str = "c", text: str = "Tea.") -> ExportedRun:
    item = Item(item_id="i", prompt=f"Why? {text}", reference=f"No. {text}", preferences=(text,))
    said = [f"j {text}: prefers the response"]
    made = ExportedItem("t", item, text, {"j": PairVerdict(winner="a")}, said=said)
    return ExportedRun(
        run_id=run_id,
        model=model,
        suite="s",
        items=[made],
        judges={"j": f"j {text}"},
        scores=scores,
    )


RUNS = [
    _run("one", _score("accuracy", 40.0, ci95=(30.0, 50.0)), _score("ece", 0.1), run_id="a" * 32),
    _run(
        "two",
        _score("accuracy", 60.0),
        _score("ece", 0.2),
        _score("brier", None),
        run_id="b" * 32,
    ),
]


def test_the_best_is_the_highest_or_where_low_is_good_the_lowest() -> None:
    best = {
        names[1]: [cell.best if cell else None for cell in cells]
        for names, cells in table_of(RUNS).rows
    }
    assert best == {
        "accuracy (%)": [False, True],
        "calibration error, ECE (0-1)": [True, False],
        "Brier score (0-2)": [None, False],
    }


def test_numbers_made_by_other_rules_do_not_compete() -> None:
    half = _run(
        "three", _score("accuracy", 90.0, signature=join(suite="s", judge="j", ties="half"))
    )
    table = table_of([*RUNS, half])
    cells = [row for names, row in table.rows if names[1] == "accuracy (%)"]
    assert [[cell.best if cell else None for cell in row] for row in cells] == [
        [False, True, None],
        [None, None, False],
    ]


def test_runs_of_one_model_are_told_apart() -> None:
    runs = [_run("one", run_id="a" * 32), _run("one", run_id="b" * 32)]
    assert table_of(runs).runs == ["one (aaaaaaaa)", "one (bbbbbbbb)"]


def test_runs_are_called_by_what_tells_them_apart() -> None:
    def run(method: str, variant: str | None, seed: int | None, run_id: str) -> ExportedRun:
        name = RowName(model="Llama-1B", method=method, variant=variant)
        served = "openai:meta/Llama-1B@http://gpu-7:8000/v1"
        return replace(_run(served, run_id=run_id), name=name, trained_seed=seed)

    runs = [
        run("MIPO", "missing", 0, "a" * 32),
        run("MIPO", "missing", 1, "b" * 32),
        run("Personalized prompting", None, None, "c" * 32),
        run("SFT", None, 2, "d" * 32),
        run("SFT", None, 2, "e" * 32),
    ]
    assert column_names(runs) == [
        "MIPO (missing), training seed 0",
        "MIPO (missing), training seed 1",
        "Personalized prompting",
        "SFT, training seed 2 (dddddddd)",
        "SFT, training seed 2 (eeeeeeee)",
    ]
    assert column_names(runs[:1]) == ["Llama-1B"]


def test_a_table_for_a_paper_has_a_row_a_method_and_what_a_paper_shows(tmp_path: Path) -> None:
    win = "win_rate_tie_inclusive"
    scores = [_score(win, 60.0), _score("tie_rate", 5.0), _score("ece", 0.2)]
    runs = [_run("one", *scores), _run("two", _score(win, 50.0)), _run("[b]", _score(win, 1.0))]
    write(runs, "latex", tmp_path / "t.tex")
    text = (tmp_path / "t.tex").read_text()
    assert " & \\multicolumn{2}{c}{t} \\\\" in text
    assert "method & win rate, a tie is a win (\\%) & tie rate (\\%) \\\\" in text
    assert "one & \\textbf{60.0} & 5.0 \\\\" in text
    assert "two & 50.0 & -- \\\\" in text
    assert "{}[b] & 1.0 & -- \\\\" in text, "after a line's end, [ would begin an argument"
    assert "\\caption{Judged by j. Best of each column in bold" in text
    assert "\\label{tab:s}" in text
    write(runs, "latex", tmp_path / "t.tex", metrics=["ece"])
    text = (tmp_path / "t.tex").read_text()
    assert "win rate" not in text
    assert "method & calibration error, ECE (0-1) \\\\" in text
    with pytest.raises(ConfigError, match="no metric 'brier': these runs have ece, tie_rate, win"):
        write(runs, "csv", tmp_path / "s.csv", metrics=["brier"])
    (row, *_) = score_rows(runs)
    assert (row["name"], row["metric_label"]) == ("one", "win rate, a tie is a win (%)")


def test_csv_comes_back_and_has_no_formulas() -> None:
    names = ["=1+1", "+1", "-2", "@x", " =a", "\t=a", "plain", "-2.5", 'a,b\n"c"']
    runs = [_run(name, _score("accuracy", -1.5)) for name in names]
    rows = list(csv.DictReader(io.StringIO(to_csv(score_rows(runs)))))
    assert list(rows[0]) == list(score_rows(runs)[0])
    assert [row["model"] for row in rows] == [
        "'=1+1",
        "+1",
        "-2",
        "'@x",
        "' =a",
        "'\t=a",
        "plain",
        "-2.5",
        'a,b\n"c"',
    ]
    assert {row["value"] for row in rows} == {"-1.5"}


def test_parquet_keeps_types_and_missing_values(tmp_path: Path) -> None:
    from pyarrow import parquet

    write(RUNS, "parquet", tmp_path / "s.parquet")
    table = parquet.read_table(tmp_path / "s.parquet")
    assert table.column("value").to_pylist() == [40.0, 0.1, 60.0, 0.2, None]
    assert table.column("ci95_low").to_pylist() == [30.0, None, None, None, None]
    assert str(table.schema.field("n").type) == "int64"


def test_json_is_what_the_scores_are(tmp_path: Path) -> None:
    write(RUNS, "json", tmp_path / "s.json")
    assert json.loads((tmp_path / "s.json").read_text())["scores"] == score_rows(RUNS)


def test_markdown_marks_the_best_and_escapes() -> None:
    text = TEXTS["md"]([*RUNS, _run(HOSTILE, _score("accuracy", 1.0))])
    assert "**60.0**" in text
    assert "<script" not in text
    assert "<img" not in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {8}
    assert in_markdown("[x](y) `z` *w*") == "\\[x\\]\\(y\\) \\`z\\` \\*w\\*"


def test_latex_escapes_every_special_character() -> None:
    assert in_latex("a_b & 50% $x$ #1 ~^{\\}") == (
        r"a\_b \& 50\% \$x\$ \#1 \textasciitilde{}\textasciicircum{}\{\textbackslash{}\}"
    )
    broken = [replace(run, suite="line\nbreak") for run in (*RUNS, _run(HOSTILE))]
    text = TEXTS["latex"](broken)
    assert r"\textbf{60.0}" in text
    assert r"\input" not in text
    assert text.startswith("% line break\n")
    assert {"\\toprule", "\\midrule", "\\bottomrule"} <= set(text.splitlines())


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
def test_latex_compiles(tmp_path: Path) -> None:
    write([*RUNS, _run(HOSTILE)], "latex", tmp_path / "t.tex")
    head = "\\documentclass{article}\\usepackage{booktabs}\\usepackage[T1]{fontenc}"
    main = f"{head}\\begin{{document}}\\input{{t}}\\end{{document}}"
    (tmp_path / "m.tex").write_text(main)
    command = ["pdflatex", "-halt-on-error", "-no-shell-escape", "m.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


class _Page(html.parser.HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_the_report_runs_and_loads_nothing_foreign(tmp_path: Path) -> None:
    quiet = [_run("one", _score("accuracy", 40.0, ci95=(30.0, 50.0)))]
    judged = _score(
        "accuracy",
        40.0,
        ci95=(30.0, 50.0),
        task=HOSTILE,
        signature=join(x=HOSTILE.replace("|", "/")),
    )
    loud = [_run(HOSTILE, judged, text=HOSTILE)]
    pages = {}
    for name, runs in (("quiet", quiet), ("loud", loud)):
        write(runs, "html", tmp_path / f"{name}.html")
        pages[name] = _Page()
        pages[name].feed((tmp_path / f"{name}.html").read_text())
    assert pages["loud"].tags == pages["quiet"].tags
    assert pages["loud"].tags.count("script") == 1
    names = {name for name, _ in pages["loud"].attributes}
    assert not {name for name in names if name.startswith("on")} | (names & {"src", "href"})
    policy = next(v for n, v in pages["loud"].attributes if v and v.startswith("default-src"))
    assert policy.startswith("default-src 'none'; script-src 'sha256-")


def test_the_policy_names_our_script_and_style(tmp_path: Path) -> None:
    import base64
    import hashlib

    write(RUNS, "html", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in text


def _stored_run(store: Store) -> Run:
    """Put a run of our own: three items, rated above, level with and below their references."""
    items = [
        Item(item_id=f"i{n}", prompt=f"Tea {n}?", reference=f"No {n}.", preferences=("Short.",))
        for n in range(3)
    ]
    list_key, _ = put_list(store, [("t", items)])
    put_generation(store, "g", {"model": "m"})
    said = [
        Response(item_key=item.key, text=f"Yes {n}.", prompt_hash="0" * 32)
        for n, item in enumerate(items)
    ]
    put_responses(store, "g", said)
    put_judge(store, "j", "my judge", {})
    ratings = []
    for n, (item, mine) in enumerate(zip(items, (5, 3, 1), strict=True)):
        for text, rating in ((f"Yes {n}.", mine), (f"No {n}.", 3)):
            ratings.append(
                Rating(
                    judge="j",
                    item_key=item.key,
                    text_key=text_key(text),
                    aspect=0,
                    rating=rating,
                    reason=None,
                    call_key="c",
                )
            )
    put_ratings(store, ratings)
    from mipo_eval.store.engine import now

    run = Run(
        run_id="r" * 32,
        model="m",
        suite="s",
        prompting="",
        seed=0,
        list_key=list_key,
        n_items=3,
        generation_key="g",
        environment={},
        created_at=now(),
        updated_at=now(),
    )
    put_run(store, run)
    score = _score(
        "win_rate_strict", 33.25, ci95=(10.0, 60.0), signature=join(suite="s", judge="my judge")
    )
    put_scores(store, run.run_id, [score])
    return run


def test_the_report_shows_each_rating_beside_the_reference() -> None:
    with Store.open("ours.db") as store:
        record = load_run(store, _stored_run(store))
    write([record], "html", Path("r.html"))
    page = Path("r.html").read_text()
    assert "my judge: preference 1 rated 5 (reference 3)" in page
    assert "my judge: prefers the response" in page


def _back(path: Path) -> ExportedRun:
    """Import a path into a store of its own and return its only run."""
    with Store.open("back.db") as store:
        store_runs(store, read_path(path).runs)
        (run,) = list_runs(store)
        return load_run(store, run)


def test_our_ratings_go_to_alpaca_eval_and_back() -> None:
    with Store.open("ours.db") as store:
        record = load_run(store, _stored_run(store))
    write([record], "alpaca_eval", Path("a.json"))
    assert [row["preference"] for row in json.loads(Path("a.json").read_text())] == [2.0, 1.5, 1.0]
    back = _back(Path("a.json"))
    values = {score.metric: score.value for score in back.scores}
    assert (values["win_rate"], values["tie_rate"]) == (50.0, pytest.approx(100 / 3))
    texts = [(e.item.prompt, e.item.reference, e.text) for e in record.items]
    assert [(e.item.prompt, e.item.reference, e.text) for e in back.items] == texts
    assert list(back.judges.values()) == ["my judge"]


def test_alpaca_eval_gets_what_the_store_makes_of_a_pair() -> None:
    """Pairs stored the other way round count, half-asked ones do not, equal texts are a tie."""
    with Store.open("ours.db") as store:
        run = _stored_run(store)
        put_judge(store, "chooser", "chooser", {"protocol": "pairwise"})
        rows = paired_texts(store, run)
        (first, second, third) = (row.pair for row in rows)
        with store.write() as connection:
            won = [_choice(first, shown, "a").turned() for shown in ("a", "b")]
            put_choices(store, connection, [*won, _choice(second, "a", "a")])
            equal = sa.update(tables.items).where(tables.items.c.item_key == third.item_key)
            connection.execute(equal.values(reference_key=third.first))
        rows = annotations(load_run(store, run), "chooser")
    assert [row["preference"] for row in rows] == [2.0, None, 1.5]


def _choice(pair: Pair | None, shown: Shown, winner: Verdict) -> Choice:
    assert pair
    return Choice(
        judge_key="chooser",
        item_key=pair.item_key,
        text_key_a=pair.first,
        text_key_b=pair.second,
        shown_first=shown,
        winner=winner,
    )


def test_our_scores_and_responses_go_to_lm_eval_and_back() -> None:
    with Store.open("ours.db") as store:
        record = load_run(store, _stored_run(store))
    path = Path("results_2026-01-02T03-04-05.json")
    assert len(write([record], "lm_eval", path)) == 2
    back = _back(path)
    assert (back.model, len(back.items)) == ("m", 3)
    (score,) = back.scores
    assert (score.task, score.metric, score.value, score.n) == ("t", "win_rate_strict", 33.25, 4)
    assert score.judge == "my judge"
    assert [(e.item.prompt, e.text) for e in back.items] == [
        (e.item.prompt, e.text) for e in record.items
    ]


def test_imported_annotations_of_alpaca_eval_go_out_as_they_came(shared_data: Path) -> None:
    folder = shared_data / "alpaca_eval" / "weighted_gpt4_turbo"
    (path,) = folder.glob("*.json")
    first = _back(path)
    write([first], "alpaca_eval", Path("again.json"))
    came, went = (json.loads(p.read_text()) for p in (path, Path("again.json")))
    for old, new in zip(came, went, strict=True):
        assert new.pop("preference") == pytest.approx(old.pop("preference"), abs=1e-12)
        assert {name: old[name] for name in new} == new
    again = read_path(Path("again.json")).runs[0]
    assert {s.metric: s.value for s in again.scores} == pytest.approx(
        {s.metric: s.value for s in first.scores}
    )


@pytest.mark.parametrize(
    ("wanted", "name", "runs", "error", "message"),
    [
        ("csv", "none/x.csv", RUNS, ConfigError, "the folder none is not there"),
        ("csv", ".", RUNS, ConfigError, "is a folder: name a file"),
        ("csv", "x.csv", [_run("one")], DataError, "none of these runs has a score"),
        ("alpaca_eval", "x.json", RUNS, ConfigError, "can contain one run, not 2"),
        ("lm_eval", "x.json", RUNS[:1], ConfigError, r"needs the file name results_TIME\.json"),
    ],
)
def test_what_cannot_be_written(
    wanted: str, name: str, runs: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        write(runs, wanted, Path(name))
    assert not list(Path().glob("x*"))


def test_every_format_is_named() -> None:
    assert set(NAMES) == {*TEXTS, "parquet", "alpaca_eval", "lm_eval"}
