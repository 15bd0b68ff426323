"""Every place that shows who won: each asked as a user asks it, its answer in one vocabulary.

A surface returns the facts that it shows, by name: `n`, `unscored` (a number), `reasons`, `wins`,
`ties`, `losses`, `flips`, `flip_rate` (percent), `asked` (pairs read in both orders), rates and
means as (value, low, high) under the metric's name, or `NAME:value` where no interval is shown.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from streamlit.testing.v1 import AppTest

from tests.awkward import Awkward, ask

Facts = Mapping[str, Any]
PAIRED = (("early", "other"), ("m1", "m2"), ("h1", "h2"))
"""Runs that are compared with each other."""
SUITES = {"annotator": "alpaca_eval vs baseline", "arena-judge": "arena_hard vs baseline"}
"""Imported judge to the suite it judged."""
RATES = {
    "win_rate_tie_inclusive": "win",
    "win_rate_half_ties": "half",
    "win_rate_strict": "loss",
}
"""Metric to its `--ties`."""
TITLES = {
    "win rate, a tie is a win (%)": "win_rate_tie_inclusive",
    "tie rate (%)": "tie_rate",
    "win rate, a tie is half (%)": "win_rate_half_ties",
    "win rate, a tie is a loss (%)": "win_rate_strict",
}
"""What tables call a metric, and its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A copy of the awkward store."""

    made: Awkward
    path: Path
    page: Callable[..., AppTest]
    """Draws a page of the board on it, given its name and the choices of its address."""

    def json(self, *argv: str) -> Any:
        """Return what a command says with --json."""
        return json.loads(ask(*argv, "--store", str(self.path), "--json"))

    def printed(self, *argv: str) -> str:
        """Return what a command prints."""
        return ask(*argv, "--store", str(self.path))

    def run_name(self, name: str) -> str:
        """Return what the board calls a run."""
        from mipo_eval.dashboards.links import run_name
        from mipo_eval.store import Store
        from mipo_eval.store.runs import find_run

        with Store.open(str(self.path), mode="read") as store:
            return run_name(find_run(store, self.made.runs[name]))

    def label(self, judge: str) -> str:
        """Return what tables call a judge."""
        listed = self.json("judges", "list")["judges"]
        [key] = [row["key"] for row in listed if row["name"] == judge]
        return f"{judge} ({key[:8]})"


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Whose responses, against what, by which judge."""

    run: str
    judge: str
    against: str = "reference"
    """Name of another run, or "reference"."""

    def __str__(self) -> str:
        """Name it as a failing test does."""
        other = "" if self.against == "reference" else f" against {self.against}"
        return f"{self.run}{other} by {self.judge}"


def _rate(found: Mapping[str, Any]) -> tuple[float | None, ...]:
    return (found["value"], *(found["ci95"] or (None, None)))


def _ends(row: Mapping[Any, Any]) -> tuple[float | None, ...]:
    return tuple(
        None if pd.isna(row[name]) else row[name] for name in ("value", "ci_low", "ci_high")
    )


def _entrant(world: World, name: str) -> str:
    return name if name == "reference" else world.made.runs[name]


def _judged(world: World, about: About, *more: str) -> Any:
    spec = world.made.judges[about.judge]
    protocol = ("--protocol", "rubric") if "rater" in about.judge else ()
    sides = [_entrant(world, name) for name in (about.run, about.against)]
    return ("judge", *sides, "--judge", spec, *protocol, *more)


def judge(world: World, about: About) -> Facts:
    """`mipo-eval judge A B --json`."""
    [found] = world.json(*_judged(world, about))["matches"]
    return {
        **{name: found[name] for name in ("n", "unscored", "wins", "ties", "losses")},
        "reasons": {why.removeprefix("A: "): n for why, n in found["unscored_reasons"].items()},
        "flips": found["position_flips"],
        "flip_rate": found["position_flip_rate"],
        "win_rate_strict": _rate(found["win_rate_strict"]),
        "win_rate_half_ties": _rate(found["win_rate_half_ties"]),
        "tie_rate": _rate(found["tie_rate"]),
        "loss_rate": _rate(found["loss_rate"]),
    }


def judge_exchanged(world: World, about: About) -> Facts:
    """`mipo-eval judge B A --json`, told from A's side."""
    turned = About(run=about.against, judge=about.judge, against=about.run)
    [found] = world.json(*_judged(world, turned))["matches"]
    return {
        **{name: found[name] for name in ("n", "unscored", "ties")},
        "reasons": {why.removeprefix("B: "): n for why, n in found["unscored_reasons"].items()},
        "wins": found["losses"],
        "losses": found["wins"],
        "flips": found["position_flips"],
        "flip_rate": found["position_flip_rate"],
        "tie_rate": _rate(found["tie_rate"]),
    }


def judge_printed(world: World, about: About) -> Facts:
    """The table that `mipo-eval judge A B` prints."""
    shown = world.printed(*_judged(world, about))
    names = {
        "A is better (%)": "win_rate_strict",
        "tie (%)": "tie_rate",
        "B is better (%)": "loss_rate",
        "A, a tie is half (%)": "win_rate_half_ties",
    }
    rates = {name: _shown(_after(shown, label)) for label, name in names.items()}
    counted = _after(shown, "items judged (unscored)").replace("(", "").replace(")", "").split()
    flips = _after(shown, "position flips (%)") if "position flips (%)" in shown else None
    counts = {"n": int(counted[0]), "unscored": int(counted[1]) if counted[1:] else 0}
    return {**rates, **counts, "flip_rate": flips and float(flips)}


def _after(shown: str, label: str) -> str:
    """Return the rest of the line that begins with a label."""
    [rest] = [
        line.strip().removeprefix(label).strip()
        for line in shown.splitlines()
        if line.strip().startswith(label)
    ]
    return rest


def _shown(cell: str) -> tuple[float | None, ...]:
    """Return (value, low, high) of a cell such as "33.3 [13.1, 73.8]"."""
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d+", cell)]
    return (*numbers, None, None)[:3]


def correct(world: World, about: About) -> Facts:
    """`mipo-eval judges correct`, what it says of the judge alone."""
    return _corrected(world, about)["judged"]


def _corrected(world: World, about: About) -> dict[str, Facts]:
    against = () if about.against == "reference" else ("--against", _entrant(world, about.against))
    labels = ("--labels", "ann" if about.run == "good" else _label_file(world))
    found = world.json(
        "judges", "correct", _entrant(world, about.run), "--judge", about.judge, *against, *labels
    )
    return {
        who: {
            "n": found[who]["n"],
            "unscored": found[who]["unscored"],
            "reasons": found[who]["unscored_reasons"],
            "win_rate_half_ties": _rate(found[who]),
            "win_rate_half_ties:value": found[who]["value"],
        }
        for who in ("judged", "people")
    } | {"both": {"n": found["labelled"], "share": found["agreement"], "kappa": found["kappa"]}}


def _label_file(world: World) -> str:
    """Label one pair of the late suite: the correction of a run needs a label to say anything."""
    path = world.path.with_name("labels.jsonl")
    pairs = [
        {
            "prompt": "What is late number 0?",
            "first": f"{run} says 0.",
            "second": "Reference 0. It is a drink.",
            "label": "a",
        }
        for run in ("early", "other")
    ]
    path.write_text("".join(f"{json.dumps(pair)}\n" for pair in pairs))
    return str(path)


def correct_people(world: World, about: About) -> Facts:
    """`mipo-eval judges correct`, what it says of people alone."""
    return _corrected(world, About(run=about.run, judge="one", against=about.against))["people"]


def pairs_page(world: World, about: About) -> Facts:
    """The board's page of pairs: its list of items, for one judge."""
    against = {} if about.against == "reference" else {"b": world.run_name(about.against)}
    test = world.page("pairs", a=world.run_name(about.run), by=world.label(about.judge), **against)
    [table] = [one.value for one in test.dataframe if "outcome" in one.value]
    found = Counter(told.partition(",")[0] for told in table["outcome"])
    n = found["A wins"] + found["tie"] + found["B wins"]
    return {
        "n": n,
        "unscored": len(table) - n,
        "wins": found["A wins"],
        "ties": found["tie"],
        "losses": found["B wins"],
        "flips": int(table["outcome"].str.endswith("flipped").sum()),
    }


def pairs_page_exchanged(world: World, about: About) -> Facts:
    """The page of pairs with the two sides exchanged, told from the first side."""
    found = pairs_page(world, About(run=about.against, judge=about.judge, against=about.run))
    return {**found, "wins": found["losses"], "losses": found["wins"]}


def judges_page(world: World, about: About) -> Facts:
    """The board's page of judges: its table of places."""
    test = world.page("judges")
    [table] = [one.value for one in test.dataframe if "flipped" in one.value]
    [row] = table[table["judge"] == about.judge].to_dict("records")
    return {"asked": row["pairs"], "same_rate": row["same"], "flip_rate": row["flipped"]}


def alpaca_export(world: World, about: About) -> Facts:
    """`mipo-eval export --format alpaca_eval`: the preferences of one judge."""
    path = world.path.with_name("alpaca.json")
    argv = ("export", _entrant(world, about.run), "--format", "alpaca_eval", "-o", str(path))
    world.printed(*argv, "--judge", about.judge)
    said = [row["preference"] for row in json.loads(path.read_text())]
    known = [value for value in said if value is not None]
    return {
        "n": len(known),
        "unscored": len(said) - len(known),
        "wins": sum(value > 1.5 for value in known),
        "ties": sum(value == 1.5 for value in known),
        "losses": sum(value < 1.5 for value in known),
    }


def _of_scores(scores: Sequence[Mapping[str, Any]], judge: str) -> Facts:
    """Return the facts of a run's scores as `--json` shows them."""
    own = [score for score in scores if f"judge:{judge}|" in score["signature"]]
    rates = {score["metric"]: _rate(score) for score in own}
    [counts] = {
        (score["n"], score["unscored"], json.dumps(score["unscored_reasons"])) for score in own
    }
    return {**rates, "n": counts[0], "unscored": counts[1], "reasons": json.loads(counts[2])}


def show(world: World, about: About) -> Facts:
    """`mipo-eval show RUN --json`."""
    found = world.json("show", _entrant(world, about.run), "--samples", "0")
    return _of_scores(found["scores"], about.judge)


def show_printed(world: World, about: About) -> Facts:
    """The table that `mipo-eval show RUN` prints."""
    shown = world.printed("show", _entrant(world, about.run), "--samples", "0")
    section = shown.partition(f"judged by {about.judge}")[2]
    rows, _, rest = section.partition("items scored (unscored)")
    counted = rest.splitlines()[0].replace("(", "").replace(")", "").split()
    return {
        **{name: _shown(_after(rows, label)) for label, name in TITLES.items()},
        "n": int(counted[0]),
        "unscored": int(counted[1]) if counted[1:] else 0,
    }


def main_job(world: World, about: About) -> Facts:
    """The main job once more: everything is in the store already, and nobody is asked."""
    argv = world.made.main_jobs[about.run]
    return _of_scores(world.json(*argv)["scores"], about.judge)


def leaderboard(world: World, about: About) -> Facts:
    """`mipo-eval leaderboard --json`, metric by metric."""
    cells = {
        metric: _cell(world.json("leaderboard", "--judge", about.judge, "--metric", metric), about)
        for metric in (*RATES, "tie_rate")
    }
    [counts] = {(cell["n"], cell["unscored"]) for cell in cells.values()}
    rates = {metric: _rate(cell) for metric, cell in cells.items()}
    return {**rates, "n": counts[0], "unscored": counts[1]}


def _cell(document: Any, about: About) -> Mapping[str, Any]:
    """Return the cell of a run, in the one section of its suite."""
    assert document["sections"], "the leaderboard is empty"
    rows = [row for section in document["sections"] for row in section["rows"]]
    [cell] = [cell for row in rows if row["model"] == about.run for cell in row["cells"].values()]
    found: Mapping[str, Any] = cell
    return found


def leaderboard_printed(world: World, about: About) -> Facts:
    """The table that `mipo-eval leaderboard` prints."""
    shown = world.printed("leaderboard", "--judge", about.judge)
    row = _after(shown.partition("\u2500")[2], f"{about.run} ")  # below the table's head
    counted = re.search(r" (\d+)(?: \((\d+)\))?(?: +([\d.]+) %)?$", row)
    assert counted
    return {
        "win_rate_tie_inclusive": _shown(row.partition("]")[0]),
        "n": int(counted[1]),
        "unscored": int(counted[2] or 0),
    }


def compare_side(world: World, about: About) -> Facts:
    """`mipo-eval compare --json`: what it says of one of two runs alone."""
    found: dict[str, Any] = {}
    for metric, ties in RATES.items():
        [task] = _compared(world, about.judge, "--ties", ties, runs=_neighbours(about.run))
        [side] = [s for s in task["runs"] if s["run_id"] == world.made.runs[about.run]]
        found[f"{metric}:value"] = side["value"]
        found |= {"n": side["n"], "reasons": side["unscored_reasons"]}
        found |= {"tie_rate:value": side["tie_rate"]}
    return found


def _neighbours(run: str) -> tuple[str, str]:
    return next(pair for pair in PAIRED if run in pair)


def _compared(world: World, judge: str, *more: str, runs: tuple[str, str]) -> Any:
    ids = [world.made.runs[run] for run in runs]
    return world.json("compare", *ids, "--judge", judge, "--metric", "win_rate", *more)["tasks"]


def compare(world: World, about: About) -> Facts:
    """`mipo-eval compare A B --json`: the paired difference."""
    [task] = _compared(world, about.judge, runs=(about.run, about.against))
    [pair] = task["comparisons"]
    return {
        "difference": (pair["difference"], *(pair["ci95"] or (None, None))),
        **{name: pair[name] for name in ("n", "wins", "ties", "losses")},
    }


def comparison_page(world: World, about: About) -> Facts:
    """The board's page of comparison: the paired difference to the other run."""
    found = _topic(world, about)
    how = "Base" if about.judge in SUITES else "Personalized prompting"
    test = world.page("comparison", **found, baseline=f"{about.against} \u00b7 {how}")
    tables = [one.value for one in test.dataframe if "difference" in one.value]
    assert tables, [info.value for info in test.info]
    [row] = tables[0].to_dict("records")
    assert row["row"].startswith(about.run)
    return {
        "difference": (row["difference"], row["low"], row["high"]),
        **{name: row[name] for name in ("n", "wins", "ties", "losses")},
    }


def _topic(world: World, about: About) -> dict[str, str]:
    """Return the choices of a page that shows one suite by one judge."""
    suite = SUITES.get(about.judge, "late")
    # The suite of what was imported has one judge, and no other has to be chosen.
    return {"suite": suite} | ({} if about.judge in SUITES else {"judge": world.label(about.judge)})


def leaderboard_page(world: World, about: About) -> Facts:
    """The board's leaderboard, under every rule for ties."""
    topic = _topic(world, about)
    found: dict[str, Any] = {}
    for metric in RATES:
        columns = ["95 %", "ties %", "n", "unscored"]
        test = world.page("leaderboard", **topic, ties=_rule(metric), columns=columns)
        [row] = test.dataframe[0].value.query("model == @about.run").to_dict("records")
        low, high = (float(end) for end in row["0.interval"].strip("[]").split(","))
        found[metric] = (row["0"], low, high)
        found |= {"n": row["0.n"], "tie_rate:value": row.get("0.ties")}
        found |= {"unscored": row.get("0.unscored") or 0}
    return found


def _rule(metric: str) -> str:
    from mipo_eval.dashboards.tables.leaderboard import TIES

    return TIES[metric]


def run_page(world: World, about: About) -> Facts:
    """The board's page of a run: its numbers."""
    test = world.page("run", run=world.run_name(about.run))
    [table] = [one.value for one in test.dataframe if "ci_low" in one.value]
    own = table[table["judge"] == about.judge]
    rows = {TITLES.get(row["metric"]): row for row in own.to_dict("records")}
    rows.pop(None, None)
    [counts] = {(row["n"], row["unscored"]) for row in rows.values()}
    rates = {str(name): _ends(row) for name, row in rows.items()}
    return {**rates, "n": counts[0], "unscored": counts[1]}


def _exported(world: World, about: About, form: str) -> str:
    path = world.path.with_name(f"out.{form}")
    runs = [_entrant(world, run) for run in _neighbours(about.run)]
    world.printed("export", *runs, "--format", form, "-o", str(path))
    return path.read_text()


def _of_rows(rows: Sequence[Mapping[str, Any]], world: World, about: About) -> Facts:
    run = world.made.runs[about.run]
    own = [row for row in rows if row["run_id"] == run and row["judge"] == about.judge]
    [counts] = {(int(r["n"]), int(r["unscored"]), str(r["unscored_reasons"])) for r in own}
    rates = {
        row["metric"]: tuple(
            float(row[name]) if row[name] not in {None, ""} else None
            for name in ("value", "ci95_low", "ci95_high")
        )
        for row in own
    }
    return {**rates, "n": counts[0], "unscored": counts[1], "reasons": json.loads(counts[2])}


def export_csv(world: World, about: About) -> Facts:
    """`mipo-eval export --format csv`."""
    return _of_rows(list(csv.DictReader(_exported(world, about, "csv").splitlines())), world, about)


def export_json(world: World, about: About) -> Facts:
    """`mipo-eval export --format json`."""
    rows = json.loads(_exported(world, about, "json"))["scores"]
    told = [row | {"unscored_reasons": json.dumps(row["unscored_reasons"])} for row in rows]
    return _of_rows(told, world, about)


def export_html(world: World, about: About) -> Facts:
    """`mipo-eval export --format html`: its table of scores."""
    page = _exported(world, about, "html")
    column = _neighbours(about.run).index(about.run)
    found: dict[str, Any] = {}
    for title, metric in TITLES.items():
        row = re.search(rf"<td>{re.escape(title)}</td><td>{about.judge}</td>(.*?)</tr>", page)
        assert row, f"no row of {metric} by {about.judge}"
        cell = row[1].split("</td>")[column]
        value = re.search(r'data-value="([^"]+)"', cell)
        counts = re.search(r"n (\d+)(?:, (\d+) unscored)?", cell)
        assert value
        assert counts
        found[metric] = (float(value[1]), *_shown(cell.partition("<small>")[2])[:2])
        found |= {"n": int(counts[1]), "unscored": int(counts[2] or 0)}
    return found


def export_md(world: World, about: About) -> Facts:
    """`mipo-eval export --format md`."""
    text = _exported(world, about, "md").replace("\\", "")
    column = 4 + _neighbours(about.run).index(about.run)
    found: dict[str, Any] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 5 and cells[3] == about.judge and cells[2] in TITLES:
            found[TITLES[cells[2]]] = _shown(cells[column])
    return found


def agreement(world: World, runs: Sequence[str], judges: Sequence[str]) -> Facts:
    """`mipo-eval judges agreement --json`."""
    by = [part for judge in judges for part in ("--judge", judge)]
    ids = [world.made.runs[run] for run in runs]
    [found] = world.json("judges", "agreement", *ids, *by)["agreement"]
    verdicts, ratings = found["verdicts"], found["ratings"]
    return {**verdicts, **{f"rating {name}": value for name, value in ratings.items()}}


def agreement_printed(world: World, runs: Sequence[str], judges: Sequence[str]) -> Facts:
    """The table that `mipo-eval judges agreement` prints."""
    by = [part for judge in judges for part in ("--judge", judge)]
    shown = world.printed("judges", "agreement", *(world.made.runs[run] for run in runs), *by)
    row = next(line for line in shown.splitlines() if re.match(r"[\s\d-]* verdicts ", line))
    told = re.sub(r"\[.*?\]", "", row.partition("verdicts")[2])
    share, kappa, _, n = [float(number) for number in re.findall(r"-?[\d.]+", told)]
    return {"share": share, "kappa": kappa, "n": n}


def agreement_page(world: World, runs: Sequence[str], judges: Sequence[str]) -> Facts:
    """The board's agreement of judges over a suite; its page draws it, so its table is asked."""
    from mipo_eval.dashboards.tables.comparison import agreement_table
    from mipo_eval.evaluation.score import Snapshot
    from mipo_eval.store import Store

    suite = "late" if "early" in runs else "tea"
    with Store.open(str(world.path), mode="read") as store:
        table = agreement_table(Snapshot(store), suite)
    rows = [
        row
        for row in table.to_dict("records")
        if (row["first"].split()[0], row["second"].split()[0]) == tuple(judges)
    ]
    assert rows, f"the board shows no agreement of {' and '.join(judges)}"
    return {name: rows[0][name] for name in ("n", "share", "kappa")}


def label_page(world: World, runs: Sequence[str], judges: Sequence[str]) -> Facts:
    """The board's page of labels: how far two people agree."""
    test = world.page("label", of=world.run_name(runs[0]))
    [table] = [one.value for one in test.dataframe if "agreement" in one.value]
    [row] = [
        row for row in table.to_dict("records") if (row["first"], row["second"]) == tuple(judges)
    ]
    return {"n": row["pairs"], "share": row["agreement"], "kappa": row["kappa"]}


def agreement_of_correction(world: World, runs: Sequence[str], judges: Sequence[str]) -> Facts:
    """`mipo-eval judges correct`: how far the judge and the people agree."""
    return _corrected(world, About(run=runs[0], judge=judges[1]))["both"]
