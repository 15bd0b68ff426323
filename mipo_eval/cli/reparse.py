"""`mipo-eval judge --reparse`: stored replies, read by the present parser, without a call."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mipo_eval.errors import ConfigError

if TYPE_CHECKING:
    from mipo_eval.cli.render import Output
    from mipo_eval.judges.reparsing import Reparsed


class _Row(NamedTuple):
    """What reading again made of one judge's replies."""

    judge: str
    protocol: str
    older: tuple[str, ...]
    """Keys of the judges that read them before; none: this very parser did."""
    done: "Reparsed"


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
    from mipo_eval.judges.reparsing import count_stored, older_judges, readers, reparse_judge
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
            rows.append(_Row(f"{judge.name} ({short(judge.key)})", judge.protocol, older, done))
    if as_json:
        listed = [
            {
                "judge": row.judge,
                "protocol": row.protocol,
                "read_before_by": list(row.older),
                **row.done._asdict(),
            }
            for row in rows
        ]
        output.document({"judges": listed, "left_out": dict(found.left_out)})
    else:
        _show(output, rows, found.left_out)


def _show(output: "Output", rows: Sequence[_Row], left_out: Mapping[str, str]) -> None:
    from mipo_eval.cli.render import inert

    for row in rows:
        by = "an older parser" if row.older else "this very parser"
        told = f"{row.done.read:,} replies, last read by {by}: {row.done.changed:,} read otherwise"
        absent = f"{row.done.missing:,} without an answer"
        output.show(inert(f"{row.judge}, {row.protocol}: {told} now, {absent}"))
    for name, reason in left_out.items():
        output.show(inert(f"{name} left out: {reason}"))
    if not rows and not left_out:
        output.note("No judge has stored replies yet.")
    if any(row.older for row in rows):
        output.note("Repeat the commands of your runs: their scores follow, without a call.")
