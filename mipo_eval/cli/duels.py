"""A duel as tables: a column per judge, then where the entrants differ most."""

from collections.abc import Callable, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mipo_eval.cli.compare import p_text
from mipo_eval.cli.tables import failing_lines, inert
from mipo_eval.duels.apart import Example, Gap, Said
from mipo_eval.duels.duel import Match
from mipo_eval.duels.entrants import Entrant
from mipo_eval.judges.judge import Judge
from mipo_eval.models.prices import Metered
from mipo_eval.records import Score
from mipo_eval.stats import Comparison
from mipo_eval.store.validations import MARK

Failing = Mapping[str, Sequence[str]]

_LETTERS = 240
"""Of a response, in the list of where entrants differ."""


def duel_tables(
    entrants: Sequence[Entrant],
    pairs: Sequence[Sequence[Match]],
    apart: Mapping[tuple[str, str], Sequence[Example]],
    wide: Sequence[tuple[Match, Sequence[Gap]]],
    failing: Failing,
) -> list[RenderableType]:
    """Return a duel as a person reads it.

    Args:
        entrants: for the legend.
        pairs: the matches of each task and pair of entrants, one per judge.
        apart: by task and second entrant, items that tell the two apart.
        wide: by match, preferences that the entrants serve differently.
        failing: by judge key, why a judge must not be believed.
    """
    parts: list[RenderableType] = [inert(f"{e.label}  {e.about}") for e in entrants]
    for matches in pairs:
        parts += _pair(matches, failing)
        parts += _gaps([gap for match, found in wide if match in matches for gap in found])
        parts += _apart(matches[0], apart[matches[0].task, matches[0].second.label])
    return parts


def _pair(matches: Sequence[Match], failing: Failing) -> list[RenderableType]:
    first, second = matches[0].first.label, matches[0].second.label
    title = inert(f"{matches[0].task}: {first} against {second}, {len(matches[0].entries)} items")
    title.stylize("bold")
    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("[95 % interval]")
    for match in matches:
        mark = f" {MARK}" if match.judge_key in failing else ""
        how = {"rubric": "by its ratings"}.get(match.protocol, match.protocol)
        table.add_column(inert(f"{match.judge}{mark}\n{how}"), justify="right")
    for label, cell in _rows(first, second):
        cells = [cell(match) for match in matches]
        if any(cells):
            table.add_row(label, *cells)
    names = {match.judge_key: match.judge for match in matches if match.judge_key}
    return [Text(""), title, table, *failing_lines(failing, names), *_remarks(matches)]


def _rows(first: str, second: str) -> list[tuple[str, Callable[[Match], Text]]]:
    return [
        (f"{first} is better (%)", lambda m: _rate(m.balance.win)),
        ("tie (%)", lambda m: _rate(m.balance.tie)),
        (f"{second} is better (%)", lambda m: _rate(m.balance.loss)),
        (f"{first}, a tie is half (%)", lambda m: _rate(m.balance.half)),
        ("net, in points", lambda m: _net(m.balance.net)),
        ("  could have shown", lambda m: _number(m.balance.net and m.balance.net.detectable)),
        ("  p (permutation)", lambda m: Text(_p(m.balance.net))),
        ("rating, in points of 5", lambda m: _difference(m.balance.rating)),
        ("position flips (%)", lambda m: _number(m.balance.flip_rate)),
        ("same response, a tie", lambda m: Text(str(m.balance.identical or ""))),
        ("items judged (unscored)", _count),
    ]


def _rate(score: Score) -> Text:
    if score.value is None:
        return Text("none", style="yellow")
    return _with_interval(f"{score.value:.1f}", score.ci95, ".1f")


def _with_interval(shown: str, interval: tuple[float, float] | None, form: str) -> Text:
    cell = Text(shown)
    if interval:
        cell.append(f" [{interval[0]:{form}}, {interval[1]:{form}}]", style="dim")
    return cell


def _net(net: Comparison | None) -> Text:
    if net is None:
        return Text("")
    mark = " ~" if net.below_resolution else " *" if net.significant() else ""
    return _with_interval(f"{net.difference:+.1f}", net.ci95, "+.1f").append(mark)


def _difference(found: Comparison | None) -> Text:
    if found is None:
        return Text("")
    return _with_interval(f"{found.difference:+.2f}", found.ci95, "+.2f")


def _number(value: float | None) -> Text:
    return Text("" if value is None else f"{value:.1f}")


def _p(net: Comparison | None) -> str:
    if net is None:
        return ""
    p = net.p_permutation if net.p_adjusted is None else net.p_adjusted
    return "" if p is None else p_text(p)


def _count(match: Match) -> Text:
    score = match.balance.win
    counted = Text(str(score.n))
    if score.unscored:
        counted.append(f" ({score.unscored})", style="yellow")
    return counted


def _remarks(matches: Sequence[Match]) -> list[Text]:
    lines = []
    for match in matches:
        if reasons := match.balance.win.unscored_reasons:
            listed = ", ".join(f"{n} x {why}" for why, n in reasons.items())
            line = inert(f"unscored by {match.judge}: {listed}")
            line.stylize("yellow")
            lines.append(line)
    nets = [match.balance.net for match in matches if match.balance.net]
    legend = []
    if any(net.significant() and not net.below_resolution for net in nets):
        legend.append("* told apart at 5 %")
    if any(net.below_resolution for net in nets):
        legend.append("~ smaller than these items can show")
    if any(net.p_adjusted is not None for net in nets):
        legend.append("p: corrected for the number of opponents (Holm)")
    if legend:
        lines.append(Text("  ".join(legend), style="dim"))
    return [*lines, *(_dim(match.signature) for match in matches)]


def _dim(text: str) -> Text:
    line = inert(text)
    line.stylize("dim")
    return line


def _gaps(found: Sequence[Gap]) -> list[RenderableType]:
    if not found:
        return []
    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("preferences served most differently", overflow="fold")
    for column in ("mean ratings", "difference", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    several = len({gap.judge for gap in found}) > 1
    for gap in found:
        name = f"{gap.judge}: {gap.preference}" if several else gap.preference
        means = f"{gap.first:.2f} / {gap.second:.2f}"
        table.add_row(inert(name), means, f"{gap.difference:+.2f}", str(gap.n))
    return [table]


def _apart(match: Match, found: Sequence[Example]) -> list[RenderableType]:
    if not found:
        return []
    letters = {"a": match.first.label, "b": match.second.label, "tie": "tie", None: "none"}
    title = f"where {letters['a']} and {letters['b']} differ most"
    parts: list[RenderableType] = [Text(title, style="bold")]
    for example in found:
        body = Text()
        for name, content in (
            ("asked", example.item.prompt),
            *(("wants", wish) for wish in example.item.preferences),
            (letters["a"], example.first),
            (letters["b"], example.second),
        ):
            body.append(f"{name}: ", style="bold")
            body.append_text(inert(_short(content))).append("\n")
        for line in (line for said in example.said for line in _said(said, letters)):
            body.append(f"[{line[0]}] ", style="dim").append_text(inert(line[1])).append("\n")
        head = inert(f"{example.item.item_id}: {letters[example.winner]} is better")
        parts += [head, Padding(body, (0, 0, 0, 2))]
    return parts


def _said(said: Said, letters: Mapping[str | None, str]) -> list[tuple[str, str]]:
    """Return what a judge said, line by line, each with the judge's name."""
    placed = [
        f"{letters[one.shown_first]} first: {_short(one.reply or 'no reply')}, which is "
        f"{letters[one.winner]}"
        for one in said.placed
    ]
    rated = [
        f"{letters['a']} {_rating(one.first)}, {letters['b']} {_rating(one.second)}: "
        f"{one.preference}"
        for one in said.rated
    ]
    return [(said.judge, line) for line in [*placed, *rated] or [letters[said.winner]]]


def _rating(value: int | None) -> str:
    return "none" if value is None else str(value)


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _LETTERS else f"{flat[: _LETTERS - 3]}..."


def expenses(judges: Sequence[Judge]) -> list[str]:
    """Return a line for each judge that counts what it was asked now."""
    lines = []
    for judge in judges:
        usage = judge.backend.usage if isinstance(judge.backend, Metered) else None
        if usage is not None and usage.tries:
            cost = "" if usage.cost is None else f", ${usage.cost:.4f}"
            tokens = usage.prompt_tokens + usage.completion_tokens
            lines.append(f"{judge.name}: {usage.tries:,} calls, {tokens:,} tokens{cost}")
    return lines
