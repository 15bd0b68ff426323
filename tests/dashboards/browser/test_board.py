"""The board in a real browser: every page draws, links reopen, filters filter, files parse."""

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path
from shutil import copy

import pytest

from mipo_eval.dashboards.links import run_name
from mipo_eval.dashboards.tables.label import labels
from mipo_eval.importers import read_path, store_runs
from mipo_eval.store import Store
from mipo_eval.store.runs import list_runs
from tests.dashboards.browser import driving
from tests.dashboards.browser.driving import Board, Visitor, open_window, serve
from tests.dashboards.scripted import (
    CANARY,
    HOSTILE,
    make_hostile_store,
    make_situations,
    make_store,
)

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

if driving.find_chromium() is None:
    pytest.skip("no chromium: apt-get install chromium", allow_module_level=True)

TITLES = (
    "Leaderboard",
    "Comparison",
    "Pairs",
    "Users",
    "Diversity",
    "Choice and math",
    "Training",
    "Judges",
    "Run",
    "Label",
)


@pytest.fixture(scope="module")
def browser() -> "Iterator[object]":
    with playwright.sync_playwright() as driver:
        started = driving.start_browser(driver)
        yield started
        started.close()


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """A store of scripted runs, and one that was imported."""
    folder = tmp_path_factory.mktemp("board")
    store = make_store(folder / "store.db")
    imported = folder / "alpaca.json"
    imported.write_text(
        '[{"instruction": "Say tea.", "output_1": "Coffee.", "generator_1": "base", '
        '"output_2": "Tea.", "generator_2": "imported-model", "annotator": "alpaca-judge", '
        '"preference": 2}]'
    )
    numbers = folder / "results.json"
    with Store.open(str(store)) as opened:
        store_runs(opened, read_path(imported).runs)
        for model, right in (("org/one", 0.8), ("org/two", 0.4)):
            told = {"results": {"arc": {"accuracy,none": right}}, "versions": {"arc": 1}}
            numbers.write_text(json.dumps(told | {"config": {"model_args": f"pretrained={model}"}}))
            store_runs(opened, read_path(numbers).runs)
    with serve(store) as running:
        yield running


@pytest.fixture
def visitor(browser: "driving.Browser", board: Board) -> Iterator[Visitor]:
    opened = open_window(browser, board)
    yield opened
    assert opened.foreign == []
    assert opened.errors == []
    opened.page.context.close()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """A store whose every name and text wants to be run."""
    with serve(make_hostile_store(tmp_path_factory.mktemp("hostile") / "store.db")) as running:
        yield running


@pytest.fixture(scope="module")
def hostile_window(browser: "driving.Browser", hostile: Board) -> Iterator[Visitor]:
    opened = open_window(browser, hostile)
    opened.open("")
    yield opened
    opened.page.context.close()


@pytest.fixture
def hostile_visitor(hostile_window: Visitor) -> Visitor:
    """One window for all these tests: what an earlier one did must not show either."""
    return hostile_window


@pytest.fixture(scope="module")
def situations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """A suite for each way a leaderboard can come out."""
    with serve(make_situations(tmp_path_factory.mktemp("situations") / "store.db")) as running:
        yield running


@pytest.mark.parametrize(
    ("suite", "said"),
    [
        ("clear", r"^MIPO \(missing\) leads with \d+\.\d %: \+\d+\.\d points over Personalized "
         r"prompting \[\+.*, \+.*\], p < 0\.001; told apart from every other method\.$"),
        ("none", r"^No method is shown to beat Personalized prompting; these 96 items could show "
         r"\d+ points\.$"),
        ("one", r"^MIPO \(missing\) has \d+\.\d %; there is no other method to compare it with "
         r"yet\.$"),
        ("seeds", r"^MIPO \(missing\) leads with \d+\.\d % \(mean of 3 seeds\): \+"),
    ],
)  # fmt: skip
def test_the_first_page_answers_in_one_sentence(
    browser: "driving.Browser", situations: Board, suite: str, said: str
) -> None:
    window = open_window(browser, situations)
    window.open("", suite=suite)
    assert re.search(said, window.page.locator(".mipo-headline").inner_text())
    if suite == "seeds":
        assert window.page.locator(".mipo-line em").count() == 3
    assert window.errors == []
    window.page.context.close()


@pytest.mark.parametrize(
    ("suite", "said"),
    [
        ("tea", "This judge fails its validation. If it is believed: "),
        ("alpaca_eval vs base", "; there is no other method to compare it with yet."),
        ("lm_eval/arc", "; these numbers have no values item by item, so nothing can be tested."),
    ],
)
def test_the_first_page_says_what_its_numbers_cannot(
    visitor: Visitor, suite: str, said: str
) -> None:
    visitor.open("", suite=suite)
    assert said in visitor.page.locator(".mipo-headline").inner_text()


def test_a_comparison_leads_with_its_sentence_and_bar(
    browser: "driving.Browser", situations: Board
) -> None:
    window = open_window(browser, situations)
    window.open("comparison", suite="clear")
    said = window.page.locator(".mipo-headline").inner_text()
    assert re.match(r"^MIPO \(missing\) beats Personalized prompting: \+", said)
    bars = window.page.locator(".mipo-share.wide")
    told = bars.first.get_attribute("aria-label") or ""
    assert [part.split()[0] for part in told.split(", ")] == ["win", "tie", "loss"]
    window.page.get_by_text("What differs in settings").click()
    window.settle()
    assert window.errors == []
    window.page.context.close()


def test_keys_step_through_items_but_not_while_somebody_types(visitor: Visitor) -> None:
    visitor.open("pairs", a=_latest(visitor.board.store, "tea"))
    number = visitor.page.locator("input[type=number]")
    assert number.input_value() == "0"
    _press_until(visitor, "j", "1")
    _press_until(visitor, "k", "0")
    search = visitor.settle().page.get_by_label("Search in all texts")
    search.click()
    search.press_sequentially("jjkj")
    visitor.settle()
    assert (search.input_value(), number.input_value()) == ("jjkj", "0")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_every_page_draws_at_every_width(
    browser: "driving.Browser", board: Board, width: int, scheme: str
) -> None:
    window = open_window(browser, board, width=width, scheme=scheme)
    window.open("")
    for title in TITLES:
        window.turn_to(title)
        assert window.errors == [], title
        assert window.overflow <= 0, title
        assert window.faint == [], title
        heads = [int(one.evaluate("e => e.tagName[1]")) for one in _heads(window)]
        assert heads.count(1) == 1, title
        assert all(low <= high + 1 for high, low in pairwise(heads)), title
        assert window.page.get_by_text("Nothing here yet").count() == 0, title
    assert window.foreign == []
    window.page.context.close()


def test_a_link_opens_a_page_on_a_new_server_with_its_choices_made(
    browser: "driving.Browser", hostile: Board
) -> None:
    # The first request that this server gets is for a page that is not the first one.
    window = open_window(browser, hostile)
    window.open("diversity", measure="Self-BLEU-4 of all texts (0-1, low = diverse)")
    assert window.page.get_by_role("heading", level=1, name="Diversity").is_visible()
    window.page.context.close()


@pytest.mark.parametrize("base", ["", "eval"])
def test_the_first_page_can_be_typed_by_its_name(
    base: str, browser: "driving.Browser", board: Board, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        if base:
            own = Path(copy(board.store, tmp_path / "store.db"))
            board = stack.enter_context(serve(own, f"--server.baseUrlPath={base}"))
        window = open_window(browser, board)
        window.open("leaderboard", suite="tea", ties="half")
        window.page.get_by_text("a tie is half (%)").first.wait_for()
        window.page.get_by_role("heading", level=1, name="Leaderboard").wait_for()
        assert window.page.url.startswith(f"{board.url}/?")
        assert window.page.get_by_text("Page not found").count() == 0
        menu = window.page.get_by_test_id("stSidebarNavLink").all_inner_texts()
        assert [entry.splitlines()[-1] for entry in menu] == list(TITLES)  # after its icon
        window.turn_to("Pairs").turn_to("Leaderboard")
        assert window.errors == []
        window.page.context.close()


def test_choices_stand_in_the_address_and_reopen(
    browser: "driving.Browser", visitor: Visitor
) -> None:
    visitor.open("diversity")
    _choose(visitor, "Measure", "distinct words")
    assert visitor.page.get_by_text("distinct words of 80 texts").count()
    address = visitor.page.url
    assert "measure=" in address
    again = open_window(browser, visitor.board)
    again.page.goto(address)
    again.page.get_by_text("distinct words of 80 texts").first.wait_for()
    again.page.context.close()


def test_the_metric_of_learning_curves_changes_the_plot_and_its_file(visitor: Visitor) -> None:
    visitor.open("training", curve="loss (nats)")
    button = visitor.page.locator(".st-key-download-curves").get_by_role("button")
    before = after = _rows(driving.downloaded(visitor, button))
    _choose(visitor, "Metric", "tokens a second")
    for _ in range(240):  # the page may begin to be drawn again only a while after the choice
        after = _rows(driving.downloaded(visitor, button))
        if after != before:
            break
        visitor.page.wait_for_timeout(250)
    assert {*before[0]} >= {"training", "step", "value", "smooth"}
    assert len(before) == len(after) == 198
    assert max(float(row["value"]) for row in before) < 1
    assert min(float(row["value"]) for row in after) > 500


def test_every_download_of_the_judges_page_parses(visitor: Visitor) -> None:
    visitor.open("judges")
    for table in visitor.page.locator("[data-testid=stExpander] summary").all():
        table.click()  # tables are folded under their charts
    buttons = visitor.page.get_by_test_id("stDownloadButton")
    buttons.nth(5).wait_for()  # the browser fetches what draws them when it meets the first one
    files = [_rows(driving.downloaded(visitor, button)) for button in buttons.all()]
    assert all(files)
    ratings = next(rows for rows in files if "rating" in rows[0])
    assert sum(float(row["share"]) for row in ratings) == pytest.approx(1.0)


def test_people_label_blind_by_key_and_go_on_where_they_were(
    browser: "driving.Browser", visitor: Visitor
) -> None:
    compared = {"person": "Ann", "of": _latest(visitor.board.store, "tea")}
    visitor.open("label", **compared)
    texts = visitor.page.locator(".mipo-text")
    seen = set()
    for done, key in enumerate(("1", "2", "0", "s")):
        visitor.page.get_by_text(f"{done} of 96 pairs").wait_for()
        visitor.settle()  # a key that is struck before its button is there does nothing
        seen.add(texts.nth(3).inner_text())
        visitor.page.keyboard.press(key)
    visitor.page.get_by_text("4 of 96 pairs").wait_for()
    assert len(seen) == 4
    assert _said(visitor.board.store, "Ann") == ["a|b", "a|b", "tie", None]
    again = open_window(browser, visitor.board)
    again.open("label", **compared)
    again.page.get_by_text("4 of 96 pairs").wait_for()
    assert again.page.locator(".mipo-text").nth(3).inner_text() not in seen
    again.page.context.close()


@pytest.mark.parametrize("title", ["Leaderboard", "Comparison", "Pairs", "Judges", "Run"])
def test_hostile_names_and_texts_are_inert(hostile_visitor: Visitor, title: str) -> None:
    hostile_visitor.turn_to(title)
    _check_inert(hostile_visitor)


def test_every_hostile_text_is_shown_inert_in_the_pair_browser(hostile_visitor: Visitor) -> None:
    hostile_visitor.open("pairs", item="0")
    for item in range(len(HOSTILE)):
        shown = f"document.querySelector('input[type=number]')?.value == '{item}'"
        hostile_visitor.page.wait_for_function(shown)
        hostile_visitor.settle()
        assert hostile_visitor.page.locator(".mipo-text").count() >= 4
        _check_inert(hostile_visitor)
        hostile_visitor.page.keyboard.press("j")


def test_every_hostile_text_is_shown_inert_to_people_who_label(hostile_visitor: Visitor) -> None:
    hostile_visitor.open("label", person="<img src=x onerror=window.canary=1>")
    for done in range(len(HOSTILE)):
        hostile_visitor.page.get_by_text(f"{done} of {len(HOSTILE)} pairs").wait_for()
        hostile_visitor.settle()
        _check_inert(hostile_visitor)
        hostile_visitor.page.keyboard.press("0")
    hostile_visitor.page.get_by_text("All pairs are labelled").wait_for()
    _check_inert(hostile_visitor)


def _check_inert(visitor: Visitor) -> None:
    """Nothing foreign was fetched, run or laid out."""
    assert visitor.errors == []
    assert visitor.foreign == []
    assert visitor.dialogs == []
    assert visitor.page.evaluate("window.canary") is None
    assert visitor.page.title() != "owned"
    assert CANARY not in " ".join(visitor.page.evaluate(_SOURCES))
    assert visitor.page.locator(".mipo-text *:not(mark)").count() == 0


_SOURCES = """[...document.querySelectorAll('[src], [href], iframe, script, style')].map(
    e => `${e.getAttribute('src') ?? ''} ${e.getAttribute('href') ?? ''}`)"""


def _heads(visitor: Visitor) -> "list[driving.Locator]":
    return visitor.page.locator("h1, h2, h3, h4, h5, h6").locator("visible=true").all()


def _press_until(visitor: Visitor, key: str, number: str) -> None:
    """Press a key until the item of this number is shown: a page that just opened may miss one."""
    shown = visitor.page.locator("input[type=number]")
    back = {"j": "k", "k": "j"}[key]
    for _ in range(50):
        before = shown.input_value()
        if before == number:
            return
        ahead = (int(before) < int(number)) == (key == "j")  # pressed twice, it went too far
        visitor.page.keyboard.press(key if ahead else back)
        with suppress(playwright.TimeoutError):
            changed = f"document.querySelector('input[type=number]').value != '{before}'"
            visitor.page.wait_for_function(changed, timeout=5000)
        visitor.settle()
    pytest.fail(f"{key} shows item {shown.input_value()} and not {number}")


def _choose(visitor: Visitor, label: str, option: str) -> None:
    wanted = visitor.page.get_by_role("option").filter(has_text=option).first
    for _ in range(50):  # a list that opens while the page is drawn again closes again
        visitor.page.get_by_role("combobox", name=label).click()
        with suppress(playwright.TimeoutError):
            wanted.click(timeout=3000)
            break
    visitor.settle()


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def _latest(path: Path, suite: str) -> str:
    """The name, in addresses, of the latest run of a suite."""
    with Store.open(str(path), mode="read") as store:
        return next(run_name(run) for run in list_runs(store) if run.suite == suite)


def _said(path: Path, person: str) -> list[str | None]:
    """What a person said, by the order of the answers, with both sides told alike."""
    with Store.open(str(path), mode="read") as store:
        said = list(labels(store, person).values())
    order = sorted(said, key=lambda winner: (winner is None, winner == "tie"))
    return ["a|b" if winner in {"a", "b"} else winner for winner in order]
