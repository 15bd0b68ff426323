"""`mipo-eval plugins`: what other people's packages and files add."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from mipo_eval.cli.options import examples, json_option, plugin_option

if TYPE_CHECKING:
    from mipo_eval.plugins import Plugin


@click.command(epilog=examples("plugins", "plugins --plugin mine.py"))
@plugin_option
@json_option
def plugins(*, as_json: bool) -> None:
    """List your plug-ins, and say which are broken.

    A plug-in comes from an installed package or from --plugin FILE.py. It adds negatives, a loss on
    pairs, a reward, a suite or a judge's backend. You use its name as you use a built-in one.
    docs/plugins.md says how to write one.
    """
    from mipo_eval.cli.render import Grid, Output, inert
    from mipo_eval.plugins import KINDS, list_plugins

    output = Output(as_json=as_json)
    rows = [_row(plugin) for kind in KINDS for plugin in list_plugins(kind)]
    output.document({"plugins": rows})
    table = Grid("kind", "name", "of", "what it does", wrap=True)
    for row in rows:
        if not row["broken"]:
            table.add(*(row[name] or "" for name in ("kind", "name", "origin", "about")))
    if table.row_count:
        output.show(table)
    output.show(*(inert(f"broken: {row['broken']}", "bold red") for row in rows if row["broken"]))
    if not rows:
        output.note("No installed package has a plug-in. For a file of yours: --plugin FILE.py")
    for kind in dict.fromkeys(row["kind"] or "" for row in rows if not row["broken"]):
        output.note(f"{kind}: mipo-eval {KINDS[kind]}")


def _row(plugin: "Plugin") -> dict[str, str | None]:
    """Return a plug-in as it is listed; `broken` says in one line why it cannot be used."""
    from mipo_eval.errors import ConfigError
    from mipo_eval.plugins import find_plugin

    about, broken = None, None
    try:
        find_plugin(plugin.kind, plugin.name)
        about = plugin.about
        if plugin.name in _ours()[plugin.kind]:
            broken = f"{plugin}: the name is taken by one of ours, which is used"
    except ConfigError as error:
        broken = str(error)
    names = {"kind": plugin.kind, "name": plugin.name, "origin": plugin.origin}
    return {**names, "about": about, "broken": broken}


def _ours() -> Mapping[str, tuple[str, ...]]:
    from mipo_eval.models.spec import KINDS
    from mipo_eval.tasks.suites import SUITES
    from mipo_eval.training.recipes import LOSSES, NEGATIVES, REWARDS

    return {
        "negatives": NEGATIVES,
        "losses": LOSSES,
        "rewards": REWARDS,
        "suites": tuple(SUITES),
        "backends": tuple(KINDS),
    }
