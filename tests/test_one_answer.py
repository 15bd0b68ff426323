"""One answer to one question: every surface is asked for the same facts of one awkward store.

The facts were worked out by hand from the states of `tests/awkward.py`. A judge that chooses has
judged a pair when both orders are read: the same winner twice wins, all else is a tie, and a flip
is a tie whose orders name opposite winners. One order, an unread or a failed one leaves the pair
not judged. Equal texts are a tie that nobody was asked about: it counts in a win rate, and not in
how far judges agree. A person is asked once. What was rated after a run was scored counts at once,
in value, n and interval alike.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.judges.parse import parse_choice
from mipo_eval.metrics.win_rate import outcome_rates
from mipo_eval.stats import Crossed, compare
from tests import surfaces
from tests.awkward import PAIRS, Awkward, grouped
from tests.dashboards.opening import open_page
from tests.surfaces import About, Facts, World

TEA: Mapping[str, str] = {
    # 0         1
    # 012345678901234567
    "one": "wlwwwlttttt...t...",
    "two": "wllwtlwtwlwwlwtwt.",
    "ann": "..w..lw.t......w..",
    "bob": "..w..wl.t.........",
}
"""Who judged to how the run `good` came out, pair by pair, in the order of `PAIRS`."""
LATE: Mapping[tuple[str, str], str] = {
    ("early", "rater"): "wwwttllw",
    ("early", "other-rater"): "wlwtllwt",
    ("other", "rater"): "wlwlwlwl",
    ("other", "other-rater"): "wlwlwlwl",
}
"""Run and rater to how the run came out."""
IMPORTED: Mapping[str, str] = {
    "m1": "wwtl.w",
    "m2": "llwlwt",
    "h1": "wtt..l",
    "h2": "lwwtlw",
}

COUNTS: Mapping[About, Facts] = {
    About(run="good", judge="one"): {
        "n": 12,
        "wins": 4,
        "ties": 6,
        "losses": 2,
        "unscored": 6,
        "reasons": {
            "unparsable reply": 2,
            "call failed: refused": 1,
            "not judged": 2,
            "no response in good.jsonl": 1,
        },
        "flips": 2,
        "flip_rate": 100 * 2 / 11,  # of the pairs read in both orders; equal texts are no pair
        "asked": 11,
        "same_rate": 100 * 7 / 11,
        "win_rate_strict:value": 100 * 4 / 12,
        "win_rate_half_ties:value": 100 * 7 / 12,
        "win_rate_tie_inclusive:value": 100 * 10 / 12,
        "tie_rate:value": 50.0,
        "loss_rate:value": 100 * 2 / 12,
    },
    About(run="good", judge="two"): {
        "n": 17,
        "wins": 8,
        "ties": 4,
        "losses": 5,
        "unscored": 1,
        "reasons": {"no response in good.jsonl": 1},
        "flips": 1,
        "flip_rate": 100 * 1 / 16,
        "asked": 16,
        "same_rate": 100 * 15 / 16,
        "win_rate_strict:value": 100 * 8 / 17,
        "win_rate_half_ties:value": 100 * 10 / 17,
        "win_rate_tie_inclusive:value": 100 * 12 / 17,
        "tie_rate:value": 100 * 4 / 17,
        "loss_rate:value": 100 * 5 / 17,
    },
    About(run="good", judge="ann"): {
        "n": 5,
        "wins": 3,
        "ties": 1,
        "losses": 1,
        "flips": 0,
        "win_rate_half_ties:value": 70.0,
    },
    About(run="good", judge="bob"): {"n": 4, "wins": 2, "ties": 1, "losses": 1, "flips": 0},
    About(run="early", judge="rater"): {
        "n": 8,
        "wins": 4,
        "ties": 2,
        "losses": 2,
        "unscored": 0,
        "reasons": {},
        "flips": None,
        "win_rate_strict:value": 50.0,
        "win_rate_half_ties:value": 62.5,
        "win_rate_tie_inclusive:value": 75.0,
        "tie_rate:value": 25.0,
        "loss_rate:value": 25.0,
    },
    About(run="early", judge="other-rater"): {
        "n": 8,
        "wins": 3,
        "ties": 2,
        "losses": 3,
        "unscored": 0,
        "reasons": {},
        "flips": None,
        "win_rate_strict:value": 37.5,
        "win_rate_half_ties:value": 50.0,
        "win_rate_tie_inclusive:value": 62.5,
        "tie_rate:value": 25.0,
        "loss_rate:value": 37.5,
    },
    About(run="other", judge="rater"): {
        "n": 8,
        "wins": 4,
        "ties": 0,
        "losses": 4,
        "unscored": 0,
        "reasons": {},
        "flips": None,
        "win_rate_strict:value": 50.0,
        "win_rate_half_ties:value": 50.0,
        "win_rate_tie_inclusive:value": 50.0,
        "tie_rate:value": 0.0,
        "loss_rate:value": 50.0,
    },
    About(run="m1", judge="annotator"): {
        "n": 5,
        "wins": 3,
        "ties": 1,
        "losses": 1,
        "unscored": 1,
        "reasons": {"the annotator's reply could not be read": 1},
        "flips": 0,
        "win_rate_strict:value": 60.0,
        "win_rate_half_ties:value": 70.0,
        "win_rate_tie_inclusive:value": 80.0,
        "tie_rate:value": 20.0,
    },
    About(run="m2", judge="annotator"): {
        "n": 6,
        "wins": 2,
        "ties": 1,
        "losses": 3,
        "unscored": 0,
        "reasons": {},
        "flips": 0,
        "win_rate_strict:value": 100 * 2 / 6,
        "win_rate_half_ties:value": 100 * 2.5 / 6,
        "win_rate_tie_inclusive:value": 50.0,
        "tie_rate:value": 100 * 1 / 6,
    },
    About(run="h1", judge="arena-judge"): {
        "n": 4,
        "wins": 1,
        "ties": 2,
        "losses": 1,
        "unscored": 2,
        "reasons": {"no verdict in the judge's reply": 1, "not judged": 1},
        "flips": 1,
        "win_rate_strict:value": 25.0,
        "win_rate_half_ties:value": 50.0,
        "win_rate_tie_inclusive:value": 75.0,
        "tie_rate:value": 50.0,
    },
    About(run="h2", judge="arena-judge"): {
        "n": 6,
        "wins": 3,
        "ties": 1,
        "losses": 2,
        "unscored": 0,
        "reasons": {},
        "flips": 0,
        "win_rate_strict:value": 50.0,
        "win_rate_half_ties:value": 100 * 3.5 / 6,
        "win_rate_tie_inclusive:value": 100 * 4 / 6,
        "tie_rate:value": 100 * 1 / 6,
    },
}
DIFFERENCES: Mapping[About, Facts] = {
    About(run="early", judge="rater", against="other"): {
        "n": 8,
        "wins": 3,
        "ties": 4,
        "losses": 1,
        "difference:value": 25.0,
    },
    About(run="m1", judge="annotator", against="m2"): {
        "n": 5,  # m1 has no outcome on the fifth
        "wins": 2,
        "ties": 3,
        "losses": 0,
        "difference:value": 40.0,
    },
    About(run="h1", judge="arena-judge", against="h2"): {
        "n": 4,  # h1 has no verdict on the fourth and the fifth
        "wins": 1,
        "ties": 2,
        "losses": 1,
        "difference:value": 0.0,
    },
}
"""Paired, item by item, where a tie with the reference is a win."""
AGREEMENTS: Mapping[tuple[tuple[str, ...], tuple[str, str]], Facts] = {
    (("good",), ("one", "two")): {"n": 11, "share": 100 * 5 / 11, "kappa": 17 / 83},
    (("good",), ("ann", "one")): {"n": 4, "share": 75.0, "kappa": 7 / 11},
    (("good",), ("ann", "two")): {"n": 5, "share": 60.0, "kappa": 2 / 7},
    (("good",), ("ann", "bob")): {"n": 4, "share": 50.0, "kappa": 1 / 5},
    (("early", "other"), ("rater", "other-rater")): {
        "n": 15,
        "share": 100 * 11 / 15,
        "kappa": 11 / 21,
        "rating n": 32,
        "rating share": 75.0,
        "rating kappa": 69 / 101,
    },
}

VALUES = {"w": 1.0, "t": 0.5, "l": 0.0, ".": None}
ONE, TWO, ANN, BOB = (About(run="good", judge=name) for name in ("one", "two", "ann", "bob"))
EARLY, EARLY_2, OTHER = (
    About(run=run, judge=judge)
    for run, judge in (("early", "rater"), ("early", "other-rater"), ("other", "rater"))
)
RATED = (EARLY, EARLY_2, OTHER)
ANNOTATED = tuple(About(run=run, judge="annotator") for run in ("m1", "m2"))
PLAYED = tuple(About(run=run, judge="arena-judge") for run in ("h1", "h2"))
SCORED = (*RATED, *ANNOTATED, *PLAYED)

COUNTED = ("n", "unscored", "wins", "ties", "losses")
RATES = ("win_rate_strict", "win_rate_half_ties", "win_rate_tie_inclusive", "tie_rate")
OF_JUDGE = (*COUNTED, "flips", "win_rate_strict", "win_rate_half_ties", "tie_rate", "loss_rate")
OF_SCORES = (*RATES, "n", "unscored")

Ask = Callable[[World, About], Facts]
SURFACES: Sequence[tuple[str, Ask, Sequence[About], Sequence[str], int]] = (
    ("judge", surfaces.judge, (ONE, TWO), (*OF_JUDGE, "reasons", "flip_rate"), 9),
    ("judge, rated", surfaces.judge, RATED, (*OF_JUDGE, "reasons"), 9),
    (
        "judge, exchanged",
        surfaces.judge_exchanged,
        (ONE, TWO),
        (*COUNTED, "flips", "flip_rate", "tie_rate", "reasons"),
        9,
    ),
    (
        "judge, printed",
        surfaces.judge_printed,
        (ONE, TWO, *RATED),
        ("win_rate_strict", "tie_rate", "loss_rate", "win_rate_half_ties", "n", "unscored"),
        1,
    ),
    (
        "judges correct",
        surfaces.correct,
        (ONE, TWO, *RATED),
        ("n", "unscored", "reasons", "win_rate_half_ties"),
        9,
    ),
    ("judges correct, people", surfaces.correct_people, (ANN,), ("n", "win_rate_half_ties"), 9),
    ("page Pairs", surfaces.pairs_page, (ONE, TWO), (*COUNTED, "flips"), 9),
    (
        "page Pairs, person",
        surfaces.pairs_page,
        (ANN,),
        ("n", "wins", "ties", "losses", "flips"),
        9,
    ),
    ("page Pairs, rated", surfaces.pairs_page, (*RATED, *ANNOTATED), COUNTED, 9),
    ("page Pairs, imported", surfaces.pairs_page, PLAYED, (*COUNTED, "flips"), 9),
    ("page Judges", surfaces.judges_page, (ONE, TWO), ("asked", "same_rate", "flip_rate"), 9),
    ("export alpaca_eval", surfaces.alpaca_export, (ONE, TWO, *SCORED), COUNTED, 9),
    ("show", surfaces.show, SCORED, (*OF_SCORES, "reasons"), 9),
    ("show, printed", surfaces.show_printed, SCORED, OF_SCORES, 1),
    ("main job", surfaces.main_job, RATED, (*OF_SCORES, "reasons"), 9),
    ("leaderboard", surfaces.leaderboard, SCORED, OF_SCORES, 9),
    (
        "leaderboard, printed",
        surfaces.leaderboard_printed,
        SCORED,
        ("win_rate_tie_inclusive", "n", "unscored"),
        1,
    ),
    (
        "compare, each run",
        surfaces.compare_side,
        (EARLY, OTHER, *ANNOTATED, *PLAYED),
        ("n", "reasons", "tie_rate:value", *(f"{rate}:value" for rate in RATES[:3])),
        9,
    ),
    ("page Leaderboard", surfaces.leaderboard_page, SCORED, (*RATES[:3], "n"), 1),
    ("page Run", surfaces.run_page, SCORED, OF_SCORES, 1),
    ("export csv", surfaces.export_csv, SCORED, (*OF_SCORES, "reasons"), 9),
    ("export json", surfaces.export_json, SCORED, (*OF_SCORES, "reasons"), 9),
    ("export html", surfaces.export_html, SCORED, OF_SCORES, 1),
    ("export md", surfaces.export_md, SCORED, RATES, 1),
)
"""Surface, how it is asked, about whom, which facts it shows, with how many decimals."""
BETWEEN_RUNS: Sequence[tuple[str, Ask, Sequence[str]]] = (
    ("judge", surfaces.judge, (*OF_JUDGE, "reasons", "flip_rate")),
    ("judge, exchanged", surfaces.judge_exchanged, (*COUNTED, "flips", "flip_rate", "reasons")),
    ("judges correct", surfaces.correct, ("n", "unscored", "reasons", "win_rate_half_ties")),
    ("page Pairs", surfaces.pairs_page, (*COUNTED, "flips")),
    ("page Pairs, exchanged", surfaces.pairs_page_exchanged, (*COUNTED, "flips")),
)
"""Surfaces that also set a run against another run."""


@pytest.fixture
def world(awkward_file: Awkward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A copy of the awkward store: some of the surfaces write."""
    path = tmp_path / "awkward.db"
    for file in awkward_file.path.parent.glob("awkward.db*"):
        shutil.copy(file, tmp_path)
    return World(made=awkward_file, path=path, page=partial(open_page, monkeypatch, path))


def _came_out(about: About) -> str:
    if about.run == "good":
        return TEA[about.judge]
    return IMPORTED.get(about.run) or LATE[about.run, about.judge]


def _groups(about: About) -> Sequence[Crossed] | None:
    """Return what each item shares with others; imported instructions share nothing."""
    if about.run in IMPORTED:
        return None
    return [Crossed(*grouped(number)) for number in range(len(_came_out(about)))]


def facts(about: About) -> Facts:
    """Return the facts of a run by a judge; intervals by the library's function of outcomes."""
    values = [VALUES[letter] for letter in _came_out(about)]
    inclusive, half, strict, tie = outcome_rates(values, groups=_groups(about))
    own = dict(COUNTS[about])
    for score in (inclusive, half, strict, tie):
        value = own.get(f"{score.metric}:value")
        if value is not None:
            own[score.metric] = (value, *(score.ci95 or (None, None)))
    if "loss_rate:value" in own and inclusive.ci95 is not None:
        low, high = inclusive.ci95
        own["loss_rate"] = (own["loss_rate:value"], 100 - high, 100 - low)
    return own


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, tuple):
        return tuple(_rounded(one, digits) for one in value)
    return round(float(value), digits) if isinstance(value, float) else value


def _differing(shown: Facts, wanted: Facts, names: Sequence[str], digits: int) -> list[str]:
    """Return a line for every fact that a surface shows otherwise, or not at all."""
    return [
        f"{name}: shows {_rounded(shown.get(name, 'nothing'), 3)}, is {_rounded(wanted[name], 3)}"
        for name in names
        if _rounded(shown.get(name, "nothing"), digits) != _rounded(wanted[name], digits)
    ]


def _must_agree(shown: Facts, wanted: Facts, names: Sequence[str], digits: int = 9) -> None:
    differing = _differing(shown, wanted, names, digits)
    assert not differing, "\n" + "\n".join(differing)


def _refused_again(wanted: Facts) -> Facts:
    """Return the facts after `judge` has asked for the orders it was stopped before, in vain."""
    reasons = dict(wanted["reasons"])
    if "not judged" in reasons:
        reasons["call failed: refused"] += reasons.pop("not judged")
    return {**wanted, "reasons": reasons}


@pytest.mark.parametrize(
    ("ask", "about", "names", "digits"),
    [
        pytest.param(ask, about, names, digits, id=f"{name}: {about}")
        for name, ask, abouts, names, digits in SURFACES
        for about in abouts
    ],
)
def test_every_surface_tells_the_facts(
    world: World, ask: Ask, about: About, names: Sequence[str], digits: int
) -> None:
    wanted = facts(about)
    if ask in {surfaces.judge, surfaces.judge_exchanged}:
        wanted = _refused_again(wanted)
    _must_agree(ask(world, about), wanted, names, digits)


@pytest.mark.parametrize(
    ("ask", "judge", "names"),
    [
        pytest.param(ask, judge, names, id=f"{name}: {judge}")
        for name, ask, names in BETWEEN_RUNS
        for judge in ("one", "two")
    ],
)
def test_two_runs_of_these_texts_have_the_same_facts(
    world: World, ask: Ask, judge: str, names: Sequence[str]
) -> None:
    wanted = facts(About(run="good", judge=judge))
    if ask in {surfaces.judge, surfaces.judge_exchanged}:
        wanted = _refused_again(wanted)
    _must_agree(ask(world, About(run="good", judge=judge, against="twin")), wanted, names)


@pytest.mark.parametrize("about", list(DIFFERENCES), ids=str)
@pytest.mark.parametrize("ask", [surfaces.compare, surfaces.comparison_page])
def test_every_surface_tells_the_paired_difference(world: World, ask: Ask, about: About) -> None:
    first, second = (
        [None if letter == "." else 100.0 * (letter != "l") for letter in _came_out(side)]
        for side in (about, About(run=about.against, judge=about.judge))
    )
    nan = float("nan")
    found = compare(
        [nan if value is None else value for value in first],
        [nan if value is None else value for value in second],
        _groups(about),
        span=(0.0, 100.0),
    )
    wanted = dict(DIFFERENCES[about])
    wanted["difference"] = (wanted["difference:value"], *(found.ci95 or (None, None)))
    _must_agree(ask(world, about), wanted, ("difference", "n", "wins", "ties", "losses"))


Agree = Callable[[World, Sequence[str], Sequence[str]], Facts]
OF_RATINGS = ("rating n", "rating share", "rating kappa")
AGREEING: Sequence[tuple[str, Agree, Sequence[str]]] = (
    ("judges agreement", surfaces.agreement, ("n", "share", "kappa", *OF_RATINGS)),
    ("page Comparison", surfaces.agreement_page, ("n", "share", "kappa")),
    ("judges correct", surfaces.agreement_of_correction, ("n", "share", "kappa")),
    ("page Label", surfaces.label_page, ("n", "share", "kappa")),
)
PEOPLE = {"ann", "bob"}


def _is_asked_of(ask: Agree, judges: Sequence[str]) -> bool:
    """Whether a surface is about such judges: people, people and a judge, judges that rate."""
    people = PEOPLE & set(judges)
    if ask is surfaces.agreement_of_correction:
        return len(people) == 1
    if ask is surfaces.label_page:
        return len(people) == 2
    return ask is not surfaces.agreement_page or "rater" in judges


@pytest.mark.parametrize(
    ("ask", "runs", "judges", "names"),
    [
        pytest.param(ask, runs, judges, names, id=f"{name}: {' and '.join(judges)}")
        for name, ask, names in AGREEING
        for runs, judges in AGREEMENTS
        if _is_asked_of(ask, judges)
    ],
)
def test_every_surface_tells_how_far_two_judges_agree(
    world: World, ask: Agree, runs: Sequence[str], judges: Sequence[str], names: Sequence[str]
) -> None:
    wanted = AGREEMENTS[tuple(runs), (judges[0], judges[1])]
    told = [name for name in names if name in wanted]
    _must_agree(ask(world, runs, judges), wanted, told)


@pytest.mark.parametrize(
    ("runs", "judges"), list(AGREEMENTS), ids=[" and ".join(judges) for _, judges in AGREEMENTS]
)
def test_the_printed_agreement_is_that_of_the_document(
    world: World, runs: Sequence[str], judges: Sequence[str]
) -> None:
    shown = surfaces.agreement_printed(world, runs, judges)
    wanted = AGREEMENTS[tuple(runs), (judges[0], judges[1])]
    _must_agree(shown, {**wanted, "n": float(wanted["n"])}, ("n",))
    _must_agree(shown, wanted, ("share",), 1)
    _must_agree(shown, wanted, ("kappa",), 2)


def test_the_run_table_counts_items_and_responses(world: World) -> None:
    rows = {row["run_id"]: row for row in world.json("runs")["runs"]}
    counts = {
        name: (rows[run_id]["n_items"], rows[run_id]["responses"])
        for name, run_id in world.made.runs.items()
    }
    of_tea = {"good": (len(PAIRS), len(PAIRS) - 1), "twin": (len(PAIRS), len(PAIRS))}
    of_late = {"early": (8, 8), "other": (8, 8)}
    # The file of Arena-Hard's judgments does not hold the texts.
    assert counts == {**of_tea, **of_late, "m1": (6, 6), "m2": (6, 6), "h1": (6, 0), "h2": (6, 0)}


@pytest.mark.parametrize(
    ("judge", "ranks"),
    [
        ("annotator", {"m1": 1, "m2": 2}),
        ("arena-judge", {"h1": 1, "h2": 1}),
    ],  # equal where both have one
)
def test_imported_models_are_ranked_without_naming_their_judge(
    world: World, judge: str, ranks: Mapping[str, int]
) -> None:
    [section] = world.json("leaderboard", "--suite", surfaces.SUITES[judge])["sections"]
    assert judge in str(section["judge"])
    ranked = {
        row["model"]: cell["rank"] for row in section["rows"] for cell in row["cells"].values()
    }
    assert ranked == ranks


@pytest.mark.parametrize("verb", ["says", "suggests", "claims", "states"])
def test_a_claim_put_into_a_response_s_mouth_is_no_choice(verb: str) -> None:
    assert parse_choice(f"Response A {verb} that the answer is B.") is None
