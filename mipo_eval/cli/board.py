"""`mipo-eval board`: the leaderboard in a browser.

This file is also the script that Streamlit runs. It is not the dashboard's own module, because
Streamlit takes a folder `pages` beside its script for pages of its own: the first visitor of a new
server who comes by a link to a page would see nothing.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mipo_eval.cli.options import examples, rows_option, store_option

if TYPE_CHECKING:
    from threading import Event

_AHEAD = 10.0
"""Seconds that reading a large store may hold up the server: its address is printed, and a browser
opened, when the first page is there. A store that takes longer is read on while the server runs."""
_SERVER = ("streamlit.web.bootstrap", "streamlit.web.server.server")
"""What Streamlit would import on its way to the first page."""
_QUIET = {
    "browser.gatherUsageStats": "false",
    "server.showEmailPrompt": "false",
    "server.fileWatcherType": "none",
    "client.toolbarMode": "minimal",
    "runner.magicEnabled": "false",
    "theme.light.primaryColor": "#0072B2",
    "theme.dark.primaryColor": "#3C8DC5",
}
"""Without these Streamlit calls home, asks for an address, watches our files, and marks in red.

Without an address to show it also asks a server elsewhere what this machine's own is."""


@click.command(
    epilog=examples("board", "board --store team.db -- --server.port 8502"),
    context_settings={"ignore_unknown_options": True},
)
@rows_option
@store_option
@click.argument("streamlit", nargs=-1, type=click.UNPROCESSED, metavar="[-- STREAMLIT OPTIONS]")
@click.pass_context
def board(
    context: click.Context, rows: Path | None, store: str, streamlit: tuple[str, ...]
) -> None:
    """Show runs, responses and verdicts in a browser.

    The board only reads the store, except for the labels that people give on it. Options after --
    go to Streamlit: --server.port 8502, --server.baseUrlPath eval, --server.address 0.0.0.0,
    --server.headless true. The board has no login: put a proxy that has one in front of it before
    other people can reach the port.
    """
    import os

    from mipo_eval import settings
    from mipo_eval.errors import ConfigError
    from mipo_eval.reports.names import read_rows

    try:
        from streamlit.web import cli as streamlit_cli
    except ModuleNotFoundError:
        raise ConfigError("the board needs streamlit: pip install 'mipo-eval[board]'") from None

    named = context.get_parameter_source("store") is not click.core.ParameterSource.DEFAULT
    _check(store, named=named)
    os.environ[settings.STORE] = store
    if rows is not None:
        read_rows(rows)  # what is wrong with it is said here and not on every page
        os.environ[settings.ROWS] = str(rows)
    made = _warm()
    quiet = dict(_QUIET)
    if not _given(streamlit, "server.address"):
        quiet["browser.serverAddress"] = "localhost"
    options = [f"--{name}={value}" for name, value in quiet.items() if not _given(streamlit, name)]
    made.wait(_AHEAD)
    command = ["run", __file__, *options, *streamlit]
    streamlit_cli.main(command, prog_name="mipo-eval board", standalone_mode=False)


def _warm() -> "Event":
    """Begin now with what the first page would wait for: imports, and reading the store.

    Returns:
        What is set as soon as the first page can be drawn at once.
    """
    from importlib import import_module
    from threading import Event, Thread

    from mipo_eval.dashboards import app

    made = Event()
    Thread(target=app.warm, args=(made,), name="warm", daemon=True).start()
    for name in ("mipo_eval.dashboards.pages.leaderboard", "pyarrow", *_SERVER):
        import_module(name)
    return made


def _given(options: tuple[str, ...], name: str) -> bool:
    return any(option.partition("=")[0] == f"--{name}" for option in options)


def _check(store: str, *, named: bool) -> None:
    """Open the store once, so that what is wrong with it is said here and not on every page.

    The default store may be missing, and any may be empty: the board then waits for the first run.

    Raises:
        MipoEvalError: it cannot be opened.
    """
    from mipo_eval.store.engine import EmptyStoreError, Store

    if named or "://" in store or Path(store).exists():
        try:
            Store.open(store, mode="read").close()
        except EmptyStoreError as error:
            so_far = f"The store {error}"
        else:
            return
    else:
        so_far = f"There is no store at {store} yet"
    click.echo(f"{so_far}. The board waits for its first run.", err=True)


if __name__ == "__main__":
    from mipo_eval.dashboards.app import main

    main()
