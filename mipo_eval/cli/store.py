"""`mipo-eval store merge`, `store check`, `store forget` and `store vacuum`."""

from typing import TYPE_CHECKING

import click

from mipo_eval.cli.options import examples, json_option, reading, store_option

if TYPE_CHECKING:
    from mipo_eval.cli.render import Output
    from mipo_eval.store.engine import Store


@click.group()
def store() -> None:
    """Merge stores, check one, or drop what nothing refers to."""


@store.command(epilog=examples("store merge all.db mine.db theirs.db", "store merge URL mine.db"))
@click.argument("target")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@json_option
def merge(target: str, sources: tuple[str, ...], as_json: bool) -> None:
    """Add everything in each SOURCE to TARGET.

    Stores are SQLite files or PostgreSQL URLs. A merge can be repeated: what TARGET has is kept,
    and a reply or response that succeeded replaces one that failed, never the reverse.
    """
    from mipo_eval.cli.render import Grid, Output, inert
    from mipo_eval.store.engine import Store
    from mipo_eval.store.merge import merge as merge_stores
    from mipo_eval.store.merge import total_rows

    output = Output(as_json=as_json)
    documents = []
    for name in sources:
        # The source first: a wrong name must not leave an empty target behind.
        with Store.open(name, mode="read") as source, Store.open(target) as opened:
            output.start(f"rows of {source.name}", total_rows(source))
            merged = merge_stores(opened, source, advance=lambda _, rows: output.advance(rows))
            output.finish()
            tables = {m.table: {"read": m.read, "added": m.added} for m in merged}
            documents.append({"source": source.name, "tables": tables})
            table = Grid("table", numbers=("rows read", "new"), wrap=True, edge=True)
            for row in merged:
                if row.read:
                    table.add(row.table, f"{row.read:,}", f"{row.added:,}")
            output.show(inert(f"{source.name} merged into {opened.name}"), table)
    output.note("What it has now: mipo-eval runs --store TARGET")
    output.document({"merged": documents})


@store.command(epilog=examples("store check", "store check --store team.db"))
@reading
def check(store: "Store", output: "Output") -> int:
    """Say whether a store is whole: nothing damaged, nothing missing.

    Exits with 2 when something is broken: damaged pages, rows without what they refer to,
    incomplete item lists. Repeated work, unfinished runs and scores with two signatures are
    listed, and are no error.
    """
    from mipo_eval.cli.render import inert
    from mipo_eval.store.check import check as check_store

    findings = check_store(store)
    broken = any(finding.broken and finding.found for finding in findings)
    found = [finding for finding in findings if finding.found]
    listed = [finding._asdict() | {"examples": list(finding.examples)} for finding in found]
    output.document({"store": store.name, "broken": broken, "findings": listed})
    for finding in found:
        style = "red" if finding.broken else "yellow"
        output.show(inert(f"{finding.name}: {finding.found:,}", style))
        output.show(*(inert(f"  {example}") for example in finding.examples))
        if finding.found > len(finding.examples):
            output.note(f"  and {finding.found - len(finding.examples):,} more")
    verdict = "is broken: restore a copy, or merge one in" if broken else "is whole"
    output.show(inert(f"{store.name} {verdict} ({len(findings)} checks)"))
    return 2 if broken else 0


@store.command(epilog=examples("store forget CALL", "store forget CALL CALL --store team.db"))
@click.argument("calls", nargs=-1, required=True, metavar="CALL...")
@store_option
@json_option
def forget(calls: tuple[str, ...], store: str, as_json: bool) -> None:
    """Drop single replies of judges, so that the same command asks for them again.

    A CALL is a call's key, or the beginning of it: the board shows it with each reply. The ratings
    and choices that were read from it go, too; what else the store holds stays.
    """
    from mipo_eval.cli.render import Output, inert
    from mipo_eval.store.calls import forget as forget_call
    from mipo_eval.store.engine import Store

    Store.open(store, mode="read").close()  # opening to write would make a store that is not there
    with Store.open(store) as opened:
        keys = [forget_call(opened, name) for name in calls]
        name = opened.name
    output = Output(as_json=as_json)
    output.document({"store": name, "forgotten": keys})
    output.show(inert(f"{name}: dropped {len(keys)} of its calls; the same command asks again"))


@store.command(epilog=examples("store vacuum", "store vacuum --yes"))
@click.option("--yes", is_flag=True, help="Do not ask before dropping.")
@store_option
@json_option
def vacuum(yes: bool, store: str, as_json: bool) -> None:
    """Drop what no run refers to, and give the room back to the disk.

    Replies of judges are kept whether or not anything refers to them: they were paid for.
    Responses that a training drew go: the same training would draw them again, and alike.
    """
    from mipo_eval.cli.render import Output
    from mipo_eval.errors import ConfigError
    from mipo_eval.store.check import vacuum as drop_unreferred
    from mipo_eval.store.engine import Store

    output = Output(as_json=as_json)
    Store.open(store, mode="read").close()  # opening to write would make a store that is not there
    with Store.open(store) as opened:
        found = {t: n for t, n in drop_unreferred(opened, drop=False).items() if n}
        listed = ", ".join(f"{n:,} {table}" for table, n in found.items())
        if found and not yes:
            if as_json:
                raise ConfigError(f"--json cannot ask before dropping {listed}: add --yes")
            click.confirm(f"Nothing refers to {listed}. Drop them from {opened.name}?", abort=True)
        dropped = drop_unreferred(opened) if found else {}
        opened.compact()
        name = opened.name
    output.document({"store": name, "dropped": {t: n for t, n in dropped.items() if n}})
    output.note(f"{name}: dropped {listed}" if found else f"{name}: nothing to drop")
