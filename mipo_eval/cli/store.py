"""`mipo-eval store merge`, `store check`, `store forget` and `store vacuum`."""

from typing import TYPE_CHECKING

import click

from mipo_eval.cli.options import examples, json_option, reading, store_option

if TYPE_CHECKING:
    from mipo_eval.cli.render import Output
    from mipo_eval.store.engine import Store


@click.group()
def store() -> None:
    """Merge, check and clean stores."""


@store.command(epilog=examples("store merge all.db mine.db theirs.db", "store merge URL mine.db"))
@click.argument("target")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@json_option
def merge(target: str, sources: tuple[str, ...], as_json: bool) -> None:
    """Add everything in each SOURCE store to the TARGET store.

    Stores are SQLite files or PostgreSQL URLs. What TARGET has is kept, so a merge can be repeated.
    Only a failed reply or response is replaced by one that succeeded.
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
    output.suggest("List its runs", "runs", "--store", opened.name)
    output.document({"merged": documents})


@store.command(epilog=examples("store check", "store check --store team.db"))
@reading
def check(store: "Store", output: "Output") -> int:
    """Check a store for damaged and missing data.

    The exit code is 2 if something is broken: damaged pages, rows that refer to missing rows, or
    incomplete lists of items. Work done twice, unfinished runs and scores with two signatures are
    listed, too, but they are not errors.
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
    verdict = "is broken: restore a copy, or merge one into it" if broken else "is in order"
    output.show(inert(f"{store.name} {verdict} ({len(findings)} checks)"))
    return 2 if broken else 0


@store.command(epilog=examples("store forget CALL", "store forget CALL CALL --store team.db"))
@click.argument("calls", nargs=-1, required=True, metavar="CALL...")
@store_option
@json_option
def forget(calls: tuple[str, ...], store: str, as_json: bool) -> None:
    """Delete single replies of judges, to ask for them again.

    CALL is the key of a call, or its beginning; the board shows it with each reply. The ratings and
    choices that were read from the reply are deleted, too. Everything else stays.
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
    replies = "1 reply was" if len(keys) == 1 else f"{len(keys)} replies were"
    output.show(inert(f"{replies} deleted from {name}. The same judge command asks again."))


@store.command(epilog=examples("store vacuum", "store vacuum --yes"))
@click.option("--yes", is_flag=True, help="Delete without asking first.")
@store_option
@json_option
def vacuum(yes: bool, store: str, as_json: bool) -> None:
    """Delete what no run needs, and make the file smaller.

    Replies of judges are always kept, because they were paid for. Responses that were drawn for a
    training are deleted: the same training would draw the same responses again.
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
                raise ConfigError(f"--json cannot ask before it deletes {listed}: add --yes")
            click.confirm(f"No run needs {listed}. Delete them from {opened.name}?", abort=True)
        dropped = drop_unreferred(opened) if found else {}
        opened.compact()
        name = opened.name
    output.document({"store": name, "dropped": {t: n for t, n in dropped.items() if n}})
    output.note(f"{name}: deleted {listed}" if found else f"{name}: there is nothing to delete")
