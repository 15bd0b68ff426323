"""The board's entry: `streamlit run` executes it; it names the pages and draws the chosen one."""

import logging
import threading
import time
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

import streamlit as st

from mipo_eval.dashboards import forest, frame, markup, matrix
from mipo_eval.dashboards.links import FIRST
from mipo_eval.dashboards.tables import leaderboard
from mipo_eval.errors import MipoEvalError

# The picture in the browser's tab: any icon that has a name would be fetched from elsewhere.
_ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">
<circle cx="16" cy="16" r="16" fill="#0072B2"/><circle cx="16" cy="16" r="11" fill="#FFFFFF"/>
<circle cx="16" cy="16" r="6" fill="#D55E00"/></svg>"""


_VISITED = threading.Event()
_FIRST_VISIT, _LOADING = 30.0, 3.0
# Seconds that whoever started the server has to come, and then to load the page, alone with the
# processor.


class _Page(NamedTuple):
    title: str
    icon: str


# Name in the address, and of the module, to page, in the order of the menu. (A comment, since
# Streamlit may show a string that stands alone in its main script.)
PAGES = {
    "leaderboard": _Page("Leaderboard", ":material/leaderboard:"),
    "comparison": _Page("Comparison", ":material/compare_arrows:"),
    "pairs": _Page("Pairs", ":material/vertical_split:"),
    "users": _Page("Users", ":material/groups:"),
    "diversity": _Page("Diversity", ":material/palette:"),
    "answers": _Page("Choice and math", ":material/calculate:"),
    "training": _Page("Training", ":material/model_training:"),
    "judges": _Page("Judges", ":material/gavel:"),
    "run": _Page("Run", ":material/receipt_long:"),
    "label": _Page("Label", ":material/edit_note:"),
}


def show(page: str) -> None:
    """Draw a page; it is imported only now: most pages need plots, and the first one does not."""
    import_module(f"mipo_eval.dashboards.pages.{page}").show()


def warm(made: threading.Event) -> None:
    """Make what the first page shows under every rule for ties, before anybody asks for it.

    Args:
        made: set as soon as the page has what it shows at first.
    """
    # Streamlit warns of every thread that serves no visitor; this one is meant not to.
    context = logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context")
    own = threading.current_thread().name
    context.addFilter(lambda record: record.threadName != own)
    try:
        board = frame.open_board()
        known = board.report(leaderboard.topics) if board else []
        if board and known:
            first, *others = leaderboard.first_choices(known, frame.row_rules())
            board.report(leaderboard.section, first)
            made.set()
            if _VISITED.wait(_FIRST_VISIT):
                time.sleep(_LOADING)
            for view in others:
                board.report(leaderboard.section, view)
    except MipoEvalError:  # the page says so
        return
    finally:
        made.set()
    for page in PAGES:
        import_module(f"mipo_eval.dashboards.pages.{page}")


def _by_name(name: str, page: Any) -> Any:
    """Return what shows the first page to those who type its name: it has no address but "/"."""

    def turn() -> None:
        choices = {key: st.query_params.get_all(key) for key in st.query_params}
        st.switch_page(page, query_params=choices)

    return st.Page(turn, title=page.title, url_path=name, visibility="hidden")


def main(first: str = FIRST) -> None:
    """Draw the board.

    Args:
        first: the page shown when the address names none.
    """
    st.set_page_config(page_title="mipo-eval", page_icon=_ICON, layout="wide")
    pages = {
        name: st.Page(
            partial(show, name),
            title=page.title,
            icon=page.icon,
            url_path="" if name == first else name,
            default=name == first,
        )
        for name, page in PAGES.items()
    }
    frame.set_pages(pages)
    chosen = st.navigation([*pages.values(), _by_name(first, pages[first])])
    st.html(markup.STYLE + forest.STYLE + matrix.STYLE)
    try:
        board = frame.open_board()
        with st.sidebar:
            frame.watch(board.results if board else "")
        chosen.run()
    except MipoEvalError as error:
        st.error("The board cannot show this.")
        st.html(markup.block(str(error)))
    finally:
        _VISITED.set()


if __name__ == "__main__":
    main()
