"""`mipo-eval judge --reparse`: stored replies, read by the present parser, without a call."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mipo_eval.errors import ConfigError

if TYPE_CHECKING:
    from mipo_eval.cli.output import Output


def reparse_stored(
    store: str,
    entrants: Sequence[str],
    names: Sequence[str],
    output: "Output",
    *,
    as_json: bool,
) -> None:
    """Read the replies of judges again and say what became of them.

    Raises:
        ConfigError: entrants are named, or the store has no judge of a name.
    """
    from mipo_eval.cli.tables import inert
    from mipo_eval.judges.reparsing import (
        count_stored,
        older_judges,
        readers,
        reparse_judge,
    )
    from mipo_eval.signature import short
    from mipo_eval.store import Store

    if entrants:
        raise ConfigError(f"--reparse is about judges, not about {entrants[0]!r}: leave it out")
    Store.open(store, mode="read").close()  # opening to write would make a store that is not there
    rows = []
    with Store.open(store) as opened:
        found = readers(opened, names)
        for judge in found.judges:
            older = older_judges(opened, judge)
            total = count_stored(opened, judge, older or (judge.key,))
            if not total:  # only asked about labelled pairs, whose calls are read each time anyway
                continue
            output.start(f"replies of {judge.name}", total)
            done = reparse_judge(opened, judge, advance=output.advance)
            output.finish()
            rows.append((f"{judge.name} ({short(judge.key)})", judge.protocol, older, done))
    if as_json:
        output.document(
            {
                "judges": [
                    {
                        "judge": name,
                        "protocol": protocol,
                        "read_before_by": list(older),
                        **done._asdict(),
                    }
                    for name, protocol, older, done in rows
                ],
                "left_out": dict(found.left_out),
            }
        )
        return
    for name, protocol, older, done in rows:
        by = "an older parser" if older else "this very parser"
        told = f"{done.read:,} replies, last read by {by}: {done.changed:,} read otherwise now, "
        output.show(inert(f"{name}, {protocol}: {told}{done.missing:,} without an answer"))
    for name, reason in found.left_out.items():
        output.show(inert(f"{name} left out: {reason}"))
    if not rows and not found.left_out:
        output.note("No judge has stored replies yet.")
    if any(older for _, _, older, _ in rows):
        output.note("Repeat the commands of your runs: their scores follow, without a call.")
