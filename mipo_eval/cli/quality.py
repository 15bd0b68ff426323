"""A judge's quality as tables: its figures beside those of the rules that it must beat."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mipo_eval.cli.tables import inert
from mipo_eval.judges.quality import AgainstLabels, Quality, quality_json
from mipo_eval.judges.validate import AttackReport, Examination
from mipo_eval.metrics.agreement import Agreement
from mipo_eval.records import Score
from mipo_eval.reports.paper import Published, published_judges

_RATES = {
    "strict": "strict accuracy (%)",
    "tie_tolerant": "tie-tolerant accuracy (%)",
    "tie_rate": "tie rate (%)",
    "half_ties": "accuracy, a tie is half (%)",
}


def quality_tables(found: Examination) -> list[RenderableType]:
    """Return everything a validation found, as a person reads it."""
    about = found.quality
    title = inert(f"{found.judge} on {found.data}: {_counts(about)}")
    title.stylize("bold")
    parts: list[RenderableType] = [title, _against_labels(about), _habits(about)]
    if about.subsets:
        parts.append(_subsets(about))
    if rows := published_judges(found.data):
        parts.append(_published(rows, found))
    return [*parts, *_people(about), *_verdict(found), _dim(found.signature)]


def examined_json(found: Examination) -> dict[str, object]:
    """Return a validation as `--json` shows it."""
    own = found.quality.judge
    rates = {"strict": own.strict, "tie_tolerant": own.tie_tolerant, "tie_rate": own.tie_rate}
    return {
        "judge": found.judge,
        "judge_key": found.judge_key,
        "data": found.data,
        "data_key": found.data_key,
        "signature": found.signature,
        "pairs": found.quality.pairs,
        **{name: score and score.value for name, score in rates.items()},
        "kappa": own.kappa,
        "unparsed_rate": found.quality.unparsed_rate,
        "failings": list(found.quality.failings),
        "kept": found.kept,
        "figures": quality_json(found.quality),
        "published": [
            {"judge": row.model, "accuracy": row.method, "data": row.dataset, "value": row.value}
            for row in published_judges(found.data)
        ],
    }


def _counts(about: Quality) -> str:
    counted = f"{about.pairs} pairs"
    if about.tied_labels:
        counted += f" ({about.tied_labels} that people tie)"
    if about.judged < about.pairs:
        counted += f", {about.pairs - about.judged} without a verdict"
    return counted


def _against_labels(about: Quality) -> Table:
    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("against the labels [95 % interval]")
    for column in ("judge", "longest", "constant"):
        table.add_column(column, justify="right", no_wrap=True)
    rows: list[AgainstLabels] = [about.judge, about.longest, about.constant]
    shown = dict(_RATES)
    if about.tied_labels:
        shown["agreement"] = "same as the label, ties too (%)"
    for name, label in shown.items():
        table.add_row(label, *(_rate(getattr(row, name), first=row is rows[0]) for row in rows))
    table.add_row("Cohen's kappa", *(_number(row.kappa, 2) for row in rows))
    return table


def _rate(score: Score | None, *, first: bool = True) -> Text:
    if score is None or score.value is None:
        return Text("")
    cell = Text(f"{score.value:.1f}")
    if first and score.ci95:
        cell.append(f" [{score.ci95[0]:.1f}, {score.ci95[1]:.1f}]", style="dim")
    return cell


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _habits(about: Quality) -> Table:
    """Return what else tells a judge's verdicts from judgement: places, length, one number."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", overflow="fold")
    unread = ", ".join(f"{n} x {why}" for why, n in about.unread.items())
    table.add_row("replies without an answer (%)", f"{about.unparsed_rate:.1f}", unread)
    if about.same_verdict_rate is not None:
        table.add_row("same verdict in both orders (%)", _rate(about.same_verdict_rate), "")
    if about.first_place_rate is not None:
        table.add_row("names the first place (%)", _rate(about.first_place_rate), "50: no bias")
    if about.orders is not None:
        orders = about.orders
        each = f"{orders.accuracy_straight:.1f}, exchanged {orders.accuracy_swapped:.1f}"
        forced = "ratings forced to a choice: " if about.ratings is not None else ""
        table.add_row(
            "right in both orders (%)",
            f"{orders.accuracy_both:.1f}",
            f"{forced}as given {each}; unread is wrong",
        )
    if about.length is not None:
        length = about.length
        told = f"labels do {length.label:.1f}: {length.excess:+.1f} points, {length.n} pairs"
        table.add_row("prefers the longer response (%)", f"{length.judge:.1f}", told)
    if about.ratings is not None:
        spread = about.ratings
        counts = ", ".join(f"{rating:g} x {n}" for rating, n in spread.counts.items())
        table.add_row("entropy of its ratings (nats)", f"{spread.entropy:.2f}", counts)
    if about.calibration is not None:
        own = about.calibration
        told = (
            f"right {own.accuracy:.1f} %, Brier {own.brier:.3f} (0.5: knows nothing), {own.n} pairs"
        )
        table.add_row("calibration error (0-1)", f"{own.ece:.3f}", told)
    return table


def _subsets(about: Quality) -> Table:
    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("subset", overflow="fold")
    for column in ("pairs", "strict", "tie-tolerant", "kappa"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, own in about.subsets.items():
        table.add_row(
            inert(name or "(none)"),
            str(own.half_ties.n),
            _rate(own.strict),
            _rate(own.tie_tolerant, first=False),
            _number(own.kappa, 2),
        )
    return table


def _published(rows: Sequence[Published], found: Examination) -> Table:
    """Return the paper's judges on the same kind of data, and this one below them."""
    dataset = rows[0].dataset
    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"Table 7 of the paper, {dataset} (\u2020 other pairs, other calls)")
    for column in ("strict", "tie-tolerant"):
        table.add_column(column, justify="right", no_wrap=True)
    for model in dict.fromkeys(row.model for row in rows):
        values = {row.method: f"{row.value:.1f}" for row in rows if row.model == model}
        table.add_row(f"{model} \u2020", values["strict"], values["tie-tolerant"], style="cyan")
    own = found.quality.judge
    table.add_row(inert(found.judge), _rate(own.strict), _rate(own.tie_tolerant, first=False))
    return table


def _people(about: Quality) -> list[Text]:
    if not about.people:
        return []
    parts = [_two_people(i, j, agreement) for (i, j), agreement in about.people.items()]
    return [Text(f"people with each other: {'; '.join(parts)}")]


def _two_people(i: int, j: int, agreement: Agreement) -> str:
    kappa = "" if agreement.kappa is None else f", kappa {agreement.kappa:.2f}"
    return f"{i} and {j} agree on {agreement.share:.1f} %{kappa} ({agreement.n} pairs)"


def _verdict(found: Examination) -> list[Text]:
    margin = found.quality.over_longest
    if not found.kept:
        failed = f"{found.quality.failed_calls} of {found.quality.replies} replies are missing"
        return [inert_red(f"not kept: {failed}; repeat the command")]
    if not found.quality.failings:
        interval = f" [{margin.ci95[0]:.1f}, {margin.ci95[1]:.1f}]" if margin.ci95 else ""
        ahead = f"{margin.value:+.1f}{interval} points over choosing the longer response"
        return [Text(f"passes: {ahead}", style="green")]
    reasons = [inert_red(f"fails: {reason}") for reason in found.quality.failings]
    return [*reasons, _dim("Its verdicts are marked wherever they are shown.")]


def inert_red(text: str) -> Text:
    """Return a line of bad news."""
    line = inert(text)
    line.stylize("bold red")
    return line


def _dim(text: str) -> Text:
    line = inert(text)
    line.stylize("dim")
    return line


def attack_tables(found: AttackReport, judge: str) -> list[RenderableType]:
    """Return how often hostile responses won, over all and by kind."""
    title = inert(
        f"{judge}: {found.attacks} hostile responses against {found.items} honest ones each"
    )
    title.stylize("bold")
    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("hostile text")
    for column in ("beats (%)", "ties (%)", "a tie is half (%)", "duels"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in (*found.rates[1:], found.rates[0]):
        cells = (_rate(one.beats), f"{one.ties:.1f}", _rate(one.half), str(one.half.n))
        table.add_row(one.kind or "all", *cells)
    lines = [f"won most often: {', '.join(found.worst)}"] if found.worst else []
    lines += [f"{found.undecided} duels without a verdict"] if found.undecided else []
    signature = _dim(found.rates[0].half.signature)
    return [title, table, *(Text(line) for line in lines), signature]
