"""A table of the paper as a grid: beside what is published, what was measured, warned of, added."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.cli import main
from mipo_eval.reports.leaderboard import Cell
from mipo_eval.reports.paper import published
from mipo_eval.reports.paper_entries import PaperEntry, Warned
from mipo_eval.reports.paper_grid import PaperGrid, paper_grid
from mipo_eval.reports.warned import warnings_of
from mipo_eval.signature import Signature, join, short
from mipo_eval.store.judges import StoredJudge
from mipo_eval.tasks.items import write_items
from mipo_eval.tasks.suites import SUITES
from tests.reports.stores import Served, items
from tests.servers.openai_server import OpenAIServer, Policy, ok

LLAMA = "Llama-3.2-1B-Instruct"
NAMES = ("base", "sft-seed0", "sft-seed1", "mipo-seed0", "mipo-seed1")
ROWS = f"""
- {{name: "openai:base@*", model: {LLAMA}}}
- {{name: "openai:sft*@*", model: {LLAMA}, method: Ours}}
- {{name: "openai:mipo*@*", model: {LLAMA}, method: MIPO}}
"""


def _run(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    capsys.readouterr()
    assert main(["leaderboard", *argv]) == 0
    return capsys.readouterr().out


def _json(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    return json.loads(_run(capsys, *argv, "--json"))


def _number(document: Any, model: str, method: str, dataset: str) -> Any:
    (found,) = (
        row
        for row in document["rows"]
        if (row["model"], row["method"], row["dataset"]) == (model, method, dataset)
    )
    return found


@pytest.fixture
def measured(served: Served, capsys: pytest.CaptureFixture[str]) -> Served:
    """A base model, and two methods under two seeds, on a suite whose task is called ca."""
    apart = [item.model_copy(update={"user_id": item.item_id}) for item in items()]
    write_items(Path("ca.jsonl"), apart)
    Path("rows.yaml").write_text(ROWS)
    for name in NAMES:
        argv = ["--model", f"openai:{name}@{served.model}", "--suite", "ca.jsonl"]
        assert main([*argv, "--judge", served.judge]) == 0
    return served


@pytest.mark.parametrize("table", ["1", "2", "3", "4", "5", "6", "7", "results"])
def test_published_numbers_stand_alone_without_a_store(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = _run(capsys, "--table", table, "--store", "none.db")
    assert max(map(len, shown.split("\u2020 published")[0].splitlines())) <= 80
    number = published("results" if table == "results" else int(table))[-1]
    digits = 3 if table in {"3", "4"} else 1
    assert f"{number.value:.{digits}f}" in shown
    assert "the store has nothing for this table yet" in shown
    assert not Path("none.db").exists()


def test_other_reports_still_need_a_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", "--store", "none.db"]) == 2
    assert "there is no store at none.db" in capsys.readouterr().err


def test_a_grid_has_methods_down_and_data_sets_across(
    measured: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = _run(capsys, "--table", "1", "--rows", "rows.yaml")
    panel = shown.partition(LLAMA)[2].partition("Llama-3.2-3B")[0].splitlines()
    (head,) = (line for line in panel if "method" in line)
    assert head.split() == ["method", "CA", "PRISM", "MB"]
    at = next(k for k, line in enumerate(panel) if line.split()[:1] == ["MIPO"])
    # 20 and 22 of 24 items won by the two seeds: mean 87.5, deviation 5.9.
    assert panel[at].split() == [
        "MIPO",
        "87.5",
        "(5.9)*",
        "80.9",
        "(3.6)\u2020",
        "93.3",
        "(0.7)\u2020",
    ]
    assert panel[at + 1].split() == ["93.7", "(1.3)\u2020"]
    assert panel[at + 2].split()[0] == "-6.2"
    assert any(line.split()[:2] == ["Ours", "54.2"] for line in panel)
    assert "measured 2 of the 150 published numbers, and 1 that the paper does not have" in shown
    assert max(map(len, shown.partition("best of its column")[0].splitlines())) <= 80


def test_the_best_and_its_tie_group_are_marked() -> None:
    told = (("MIPO", 93.0, "a"), ("SFT", 90.0, "ab"), ("Base", 60.0, "b"), ("Other", 99.0, ""))
    entries = [
        PaperEntry(model="m", method=name, dataset="CA", measured=value, letters=letters)
        for name, value, letters in told
    ]
    # What was made differently is not ranked, and can be neither.
    ranked = [replace(e, level=e.measured) if e.letters else e for e in entries]
    assert _standing(paper_grid(1, ranked)) == {
        "MIPO": "best",
        "SFT": "tied",
        "Base": "",
        "Other": "",
    }


def _standing(grid: PaperGrid) -> dict[str, str]:
    return {row.name: cell.standing for row in grid.rows for cell in row.cells if cell}


def test_what_is_not_as_in_the_paper_is_warned_of(
    measured: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    document = _json(capsys, "--table", "1", "--rows", "rows.yaml")
    mipo = _number(document, LLAMA, "MIPO", "CA")
    assert "CA: n is not the paper's 200: 24" in mipo["warnings"]
    assert any(w.startswith("not the paper's judge, Llama-3-8B-Instruct") for w in mipo["warnings"])
    assert not any("wording" in warning for warning in mipo["warnings"])
    foot = " ".join(document["foot"])
    assert "CA: n 23-24, seeds 1-2, judged by judge" in foot
    assert "ties 0.0-54.2 %" in foot
    assert "|prompt:" in foot
    shown = _run(capsys, "--table", "1", "--rows", "rows.yaml")
    assert "[1 2]" in shown


def test_a_failing_judge_ties_and_another_wording_are_warned_of(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    write_items(Path("mb.jsonl"), items(12))
    Path("rows.yaml").write_text(ROWS)
    # A file is asked as CA is, not as MB.
    argv = ["--model", f"openai:sft-seed0@{served.model}", "--suite", "mb.jsonl"]
    with OpenAIServer(lambda _: ok("3")) as server:
        assert main([*argv, "--judge", f"openai:judge@{server.url}"]) == 0
    document = _json(capsys, "--table", "1", "--rows", "rows.yaml")
    (row,) = (row for row in document["rows"] if row["measured"] is not None)
    assert (row["method"], row["dataset"], row["tie_rate"]) == ("Ours", "MB", 100.0)
    warned = " ".join(row["warnings"])
    assert "more than half of the verdicts are ties, which count as wins: 100.0 %" in warned
    assert "MB: not asked in the paper's wording: query " in warned
    assert "tells nothing apart" in warned


def test_of_several_judges_the_papers_own_counts(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    write_items(Path("ca.jsonl"), items(12))
    Path("rows.yaml").write_text(ROWS)
    argv = ["--model", f"openai:mipo-seed0@{served.model}", "--suite", "ca.jsonl"]
    assert main([*argv, "--judge", served.judge]) == 0
    paper, other = "meta-llama/Meta-Llama-3-8B-Instruct", "Qwen2.5-14B-Instruct"
    with OpenAIServer(lambda _: ok("3"), policy=Policy(models=(other,))) as server:
        assert main([*argv, "--judge", f"openai:{other}@{server.url}"]) == 0
    asked = ("--table", "1", "--rows", "rows.yaml")
    assert main(["leaderboard", *asked]) == 2
    assert "several judges judged: " in capsys.readouterr().err
    mipo = _number(_json(capsys, *asked, "--judge", "judge"), LLAMA, "MIPO", "CA")
    assert mipo["tie_rate"] == 0.0
    with OpenAIServer(lambda _: ok("4"), policy=Policy(models=(paper,))) as server:
        assert main([*argv, "--judge", f"openai:{paper}@{server.url}"]) == 0
    mipo = _number(_json(capsys, *asked), LLAMA, "MIPO", "CA")
    assert mipo["judge"].startswith("Meta-Llama-3-8B-Instruct")
    assert not any("paper's judge" in warning for warning in mipo["warnings"])


def test_files_hold_the_table(
    measured: Served, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for form in ("md", "tex", "html", "csv", "json"):
        argv = ("--table", "1", "--rows", "rows.yaml", "-o", f"t.{form}")
        assert f"Written: t.{form}" in _run(capsys, *argv)
    markdown = Path("t.md").read_text()
    assert "| MIPO | **87.50 (5.89)**" in markdown
    assert "<br>93.67 (1.26)\u2020 -6.17" in markdown
    latex = Path("t.tex").read_text()
    assert r"\multicolumn{3}{c}{Llama-3.2-1B-Instruct}" in latex
    assert r"\textbf{87.50 $\pm$ 5.89}" in latex
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {line.count("&") for line in rows[1:]} == {15}
    spans = _Spans()
    spans.feed(Path("t.html").read_text())
    assert spans.found["3"] == 5
    assert "<b>87.50 (5.89)</b>" in Path("t.html").read_text()
    header = Path("t.csv").read_text().splitlines()[0].split(",")
    assert {"published", "measured", "difference", "standing", "source", "warnings"} <= {*header}
    assert len(json.loads(Path("t.json").read_text())["rows"]) == 151


class _Spans(HTMLParser):
    """Counts the heads of a table by how many columns they span."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str | None, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "th":
            span = dict(attrs).get("colspan")
            self.found[span] = self.found.get(span, 0) + 1


def test_other_peoples_rows_join_with_their_mark(capsys: pytest.CaptureFixture[str]) -> None:
    Path("others.csv").write_text(
        "model,method,dataset,value,std,source\n"
        f'{LLAMA},MIPO,ca,70.5,2.0,"Them, Table 2"\n'
        f'{LLAMA},Theirs,GSM8K,61,,"Them, Table 3"\n'
    )
    Path("more.yaml").write_text(
        "- {model: Big-9B, method: <b>Odd</b> & 5%, dataset: LaMP, metric: win_rate_tie_inclusive,"
        " value: 55.5, source: Others 2026}\n"
        "- {model: Big-9B, method: '[x] \\e[31mred', dataset: CA, value: 5, source: Others 2026}\n"
    )
    files = ("--others", "others.csv", "--others", "more.yaml", "--store", "none.db")
    shown = _run(capsys, "--table", "1", *files, "-o", "t.html")
    assert "MIPO \u2021" in shown
    assert "measured 0 of the 150 published numbers." in shown
    assert "70.5 (2.0)\u2021" in shown
    assert "\u2021 published, Them, Table 2" in shown
    assert "\u00a7 published, Others 2026" in shown
    assert "1 of 4 numbers of --others belong to another metric's table" in shown
    assert "&lt;b&gt;Odd&lt;/b&gt;" in Path("t.html").read_text()
    _run(capsys, "--table", "1", *files, "-o", "t.tex")
    assert (
        r"\textless{}b\textgreater{}Odd\textless{}/b\textgreater{} \& 5\%"
        in Path("t.tex").read_text()
    )
    assert "\n{}[x] " in Path("t.tex").read_text()  # after a line's end it would be an option
    document = _json(capsys, "--table", "results", *files)
    theirs = _number(document, LLAMA, "Theirs", "GSM8K")
    assert (theirs["published"], theirs["source"]) == (61.0, "Them, Table 3")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "model,method,dataset,value\nm,x,CA,5\n", "line 2: source: Field required"),
        ("a.csv", "model,method,dataset,value,source\nm,x,CA\n", "line 2: 3 cells"),
        ("a.csv", "model,method,dataset,value,source\nm,x,CA,105,s\n", "not between 0 and 100"),
        ("a.csv", "model,method,dataset,value,source\nm,x,LaMP,5,s\n", "give its metric"),
        ("a.yaml", "- {model: m, method: x, dataset: CA, value: nan, source: s}", "value"),
        ("a.yaml", "- {model: m, method: x, dataset: CA, valu: 1, source: s}", "valu"),
        ("a.csv", "model,method,dataset,value,source\n" + 2 * "m,x,CA,5,s\n", "is given twice"),
        (
            "a.yaml",
            "- {model: m, method: x, dataset: CA, value: 1, source: arXiv 2603.19294}",
            "already",
        ),
        ("none.yaml", None, "cannot be read"),
    ],
)
def test_a_broken_file_of_others_is_told_in_a_line(
    capsys: pytest.CaptureFixture[str], name: str, text: str | None, told: str
) -> None:
    if text is not None:
        Path(name).write_text(text)
    argv = ["leaderboard", "--table", "1", "--others", name, "--store", "none.db", "-o", "t.md"]
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error
    assert not Path("t.md").exists()


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("--others", "a.csv"), "add --table"),
        (("-o", "t.md"), "add --figure 2 to 5 or --table 1 to 7"),
        (("--table", "1", "-o", "t.png"), "must end in .md, .tex, .html, .csv, .json"),
        (("--table", "1", "-o", "no/t.md"), "the folder no is not there"),
    ],
)
def test_what_makes_no_file_is_told(
    served: Served, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], told: str
) -> None:
    assert main(["leaderboard", *argv]) == 2
    assert told in capsys.readouterr().err


def test_results_pages_are_one_table_of_eight_kinds_of_task() -> None:
    numbers = {number.dataset: number for number in published("results")}
    assert {name: number.value for name, number in numbers.items()} == {
        "CA": 93.67,
        "PRISM": 81.62,
        "MB": 94.84,
        "GSM8K": 93.0,
        "SVAMP": 91.67,
        "ARC-Easy": 93.8,
        "ARC-Challenge": 90.4,
        "MMLU": 75.0,
    }
    for number in numbers.values():
        same = [
            other.value
            for table in (1, 2, 5)
            for other in published(table)
            if (other.model, other.dataset) == (number.model, number.dataset)
        ]
        assert number.value in same or number.dataset == "MMLU"


def test_measured_numbers_join_the_results(
    measured: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = _run(capsys, "--table", "results", "--rows", "rows.yaml")
    assert "-6.2" in shown
    document = _json(capsys, "--table", "results", "--rows", "rows.yaml")
    mipo = [r for r in document["rows"] if (r["method"], r["dataset"]) == ("MIPO", "CA")]
    assert [row["measured"] for row in mipo] == [None, 87.5]


def test_lower_self_bleu_is_better() -> None:
    entries = [
        PaperEntry(model="m", method=name, dataset="CA", measured=value, level=value)
        for name, value in (("a", 0.4), ("b", 0.3))
    ]
    assert _standing(paper_grid(4, entries)) == {"a": "", "b": "best"}


MADE = Signature(
    {"suite": "mb@2", "query": short(SUITES["mb"].wording_key or ""), "judge_key": "12345678"}
)
OURS = StoredJudge(
    key="1234567890", name="j", spec={"backend": {"model": "Meta-Llama-3-8B-Instruct"}}
)


@pytest.mark.parametrize(
    ("changes", "dataset", "told"),
    [
        ({}, "MB", []),
        ({"n": None}, "MB", ["MB: n is not the paper's 84"]),
        ({"tie_rate": 50.0}, "MB", []),
        (
            {"tie_rate": 50.1},
            "MB",
            ["more than half of the verdicts are ties, which count as wins"],
        ),
        ({"differs": {"prompt": ("a", "b")}}, "MB", ["made differently from most of its column"]),
        (
            {"signature": MADE.followed_by(join(reference="published"))},
            "MB",
            ["MB: published references; the paper has references of a model"],
        ),
        (
            {"signature": MADE.followed_by(join(prompt="00000000"))},
            "MB",
            ["the judge has another prompt than the one for the paper's protocol"],
        ),
        ({"signature": MADE.less("query")}, "MB", ["MB: not asked in the paper's wording"]),
        (
            {"signature": MADE.followed_by(join(system="87654321"))},
            "MB",
            ["MB: not asked in the paper's wording"],
        ),
        (
            {"signature": MADE.followed_by(join(source="alpaca_eval"))},
            "MB",
            ["MB: not asked in the paper's wording"],
        ),
        ({"n": 3}, "MMLU", []),
        (
            {"n": 500, "signature": join(suite="arc_easy@2", form="letters")},
            "ARC-Easy",
            ["ARC-Easy: not asked in the paper's wording"],
        ),
        ({"n": 200, "signature": join(suite="gsm8k@1", form="answer")}, "GSM8K", []),
    ],
)
def test_each_way_to_differ_from_the_paper(
    changes: dict[str, Any], dataset: str, told: list[str]
) -> None:
    cell = Cell(value=1.0, seeds=1, n=84, unscored=0, differs={}, runs=(), signature=MADE)
    found = warnings_of(replace(cell, **changes), dataset, LLAMA, OURS, ())
    assert [warned.what for warned in found] == told
    assert warnings_of(cell, "MB", "Qwen2.5-3B-Instruct", OURS, ()) == (
        Warned("not the paper's judge, Qwen2.5-14B-Instruct", OURS.label),
    )
    (failing,) = warnings_of(cell, "MB", LLAMA, OURS, ("prism: always a tie",))
    assert "fails its validation on prism: always a tie" in failing.what
