"""`mipo-eval validate JUDGE`: how good a judge is, before its verdicts are believed."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mipo_eval import settings
from mipo_eval.cli.options import (
    batch_option,
    examples,
    json_option,
    max_cost_option,
    plugin_option,
    store_option,
)
from mipo_eval.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from mipo_eval.cli.render import Output
    from mipo_eval.judges.judge import Judge
    from mipo_eval.judges.labelled import LabelledPair
    from mipo_eval.judges.quality import AgainstLabels, Quality
    from mipo_eval.judges.validate import AttackReport, Examination
    from mipo_eval.records import Score
    from mipo_eval.reports.paper import Published
    from mipo_eval.store.engine import Store


@click.command(
    epilog=examples(
        "validate gpt-4.1 --data llmbar --max-cost 5",
        "validate qwen2.5-14b@http://localhost:8000 --data pairs.jsonl",
    )
)
@click.argument("judge")
@click.option(
    "--data",
    metavar="NAME|FILE",
    help="Labelled pairs: everyday, llmbar, judgebench, pandalm, psoups, "
    "personalized_rewardbench, ca, prism, a file of pairs (.jsonl, .parquet, hf://...), or "
    "store:WHO for the labels that WHO gave on the board.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Folder with these data sets. [default: MIPO_EVAL_DATA or ./data]",
)
@click.option(
    "--replies",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    metavar="FILE",
    help="Replies of the judge that you already have. No model is asked; JUDGE is only a name.",
)
@click.option(
    "--protocol",
    type=click.Choice(["rubric", "pairwise", "pairwise-tie"]),
    help="How the judge is asked. Default: rubric if the pairs have preferences, else pairwise.",
)
@click.option(
    "--prompt",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A prompt of your own, with the slots {...} that the protocol fills.",
)
@click.option(
    "--attack",
    is_flag=True,
    help="Also let hostile responses, which try to trick the judge, compete with honest ones.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Use only the first N pairs of each subset; for --attack, N honest responses (default: "
    "10).",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Random seed for the choice of items that are attacked.",
)
@max_cost_option
@batch_option
@plugin_option
@store_option
@json_option
def validate(  # noqa: PLR0913, PLR0917 - one parameter per flag; their number is limited by a test
    judge: str,
    data: str | None,
    data_dir: Path | None,
    replies: tuple[Path, ...],
    protocol: Any,
    prompt: Path | None,
    attack: bool,
    limit: int | None,
    seed: int,
    max_cost: float | None,
    batch: bool,
    store: str,
    as_json: bool,
) -> None:
    """Measure how well a judge agrees with human labels.

    JUDGE is named as for --judge of an evaluation. The labels say which of two responses is better;
    people gave them, or a rule. The judge is shown beside a judge that always ties and one that
    chooses the longer response. If it is not better than these, it is marked as failing wherever
    its verdicts are shown. --attack without --data attacks the references of the demo world.

    A row of a file of pairs is {"prompt", "first", "second", "label": "a"|"b"|"tie"} and, if known,
    "preferences": [...], "annotators": ["a", ...], "group" and "subset"; or {"prompt", "chosen",
    "rejected"}. store:people means the labels of everybody.
    """
    from mipo_eval.cli.render import Output
    from mipo_eval.judges.presets import load_judge
    from mipo_eval.judges.validate import attack_json, examine, protocol_for
    from mipo_eval.models.base import Purse
    from mipo_eval.store.engine import Store
    from mipo_eval.tasks.pairs import named_pairs, shown_name

    if replies and (data is None or attack or protocol or prompt):
        raise ConfigError("--replies takes no other option than --data, because no model is asked")
    if data is None and not attack:
        raise ConfigError("name labelled pairs with --data, or use --attack")
    output, folder = Output(as_json=as_json), data_dir or settings.data_dir()
    with Store.open(store) as opened:
        found = attacked = asked = None
        if replies and data is not None:
            found = _from_replies(opened, judge, (data, folder, replies), limit)
        else:
            pairs = named_pairs(opened, data, folder, limit) if data is not None else ()
            asked = load_judge(
                judge,
                protocol=protocol or protocol_for(judge, pairs),
                prompt_file=prompt,
                limits=None if max_cost is None else Purse(max_cost),
                batch=batch,
            )
            if data is not None:
                found = examine(opened, asked, pairs, shown_name(data), progress=output)
            if attack:
                attacked = _attack(opened, asked, pairs, (limit, seed), output)
    output.show(*(_quality(found) if found else ()))
    output.show(*(_attacked(attacked, judge) if attacked else ()))
    attacks = {"attacks": attack_json(attacked)} if attacked else {}
    output.document({"judge": judge} | (_quality_json(found) if found else {}) | attacks)
    _conclude(output, asked, found)


def _conclude(output: "Output", asked: "Judge | None", found: "Examination | None") -> None:
    """Show what a judge cost, and why it failed where it mostly did."""
    from mipo_eval.cli.evaluate import complaints, conclude

    if asked:
        counted = [(asked, found.quality.failed_calls, found.quality.replies)] if found else []
        conclude(output, [asked], complaints(counted))


def _from_replies(
    store: "Store",
    judge: str,
    where: tuple[str, Path, tuple[Path, ...]],
    limit: int | None,
) -> "Examination":
    from mipo_eval.judges.labelled import first_of_each
    from mipo_eval.judges.replies import read_replies
    from mipo_eval.judges.validate import examine_replies
    from mipo_eval.store.judges import list_judges
    from mipo_eval.tasks.pairs import OF_STORE, load_replies, named_pairs, shown_name

    data, folder, files = where
    if data.startswith(OF_STORE):
        readings = read_replies(files[0], named_pairs(store, data, folder, None))
    else:
        readings = load_replies(data, folder, files)
    kept = set(first_of_each([reading.pair for reading in readings], limit))
    chosen = [reading for reading in readings if reading.pair in kept]
    known = [j for j in list_judges(store) if judge == j.name or j.key.startswith(judge)]
    named = (known[0].name, known[0].key) if len(known) == 1 else (judge, None)
    return examine_replies(store, named, chosen, shown_name(data))


def _attack(
    store: "Store",
    judge: "Judge",
    pairs: "Sequence[LabelledPair]",
    how: tuple[int | None, int],
    output: "Output",
) -> "AttackReport":
    from mipo_eval.demo import world
    from mipo_eval.judges.validate import ATTACKED_ITEMS, attack_judge, attacks, honest_items
    from mipo_eval.keys import item_rng

    limit, seed = how
    demo = sorted(world.items("test"), key=lambda item: item_rng(seed, item.item_id).random())
    items = (honest_items(pairs, seed) if pairs else demo)[: limit or ATTACKED_ITEMS]
    return attack_judge(store, judge, items, attacks(), progress=output)


def _quality(found: "Examination") -> "list[RenderableType]":
    """Return everything a validation found, as a person reads it."""
    from mipo_eval.reports.paper import published_judges

    about = found.quality
    title = _text(f"{found.judge} on {found.data}: {_counts(about)}", "bold")
    parts: list[RenderableType] = [title, _against_labels(about), _habits(about)]
    if about.subsets:
        parts.append(_subsets(about))
    if rows := published_judges(found.data):
        parts.append(_published(rows, found))
    return [*parts, *_people(about), *_verdict(found), _text(found.signature, "dim")]


def _quality_json(found: "Examination") -> dict[str, object]:
    from mipo_eval.judges.quality import quality_json
    from mipo_eval.reports.paper import published_judges

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
        "judge_failings": list(found.quality.failings),
        "kept": found.kept,
        "figures": quality_json(found.quality),
        "published": [
            {"judge": row.model, "accuracy": row.method, "data": row.dataset, "value": row.value}
            for row in published_judges(found.data)
        ],
    }


def _counts(about: "Quality") -> str:
    counted = f"{about.pairs} pairs"
    if about.tied_labels:
        counted += f" ({about.tied_labels} labelled as ties)"
    if about.judged < about.pairs:
        counted += f", {about.pairs - about.judged} without a verdict"
    return counted


def _against_labels(about: "Quality") -> "Table":
    table = _table("against the labels [95 % interval]", "judge", "longest", "constant")
    rules = (about.judge, about.longest, about.constant)
    shown = {
        "strict": "strict accuracy (%)",
        "tie_tolerant": "tie-tolerant accuracy (%)",
        "tie_rate": "tie rate (%)",
        "half_ties": "accuracy, a tie is half (%)",
    }
    if about.tied_labels:
        shown["agreement"] = "agreement with the label, ties too (%)"
    for name, label in shown.items():
        table.add_row(label, *(_rate(getattr(r, name), interval=r is about.judge) for r in rules))
    for weight, label in (("", "Cohen's kappa"), ("weighted_", "  weighted quadratically")):
        if not weight or about.tied_labels or (about.judge.tie_rate and about.judge.tie_rate.value):
            table.add_row(label, *(_kappa(r, weight, interval=r is about.judge) for r in rules))
    return table


def _table(first: str, *columns: str) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _text(text: str, style: str = "") -> "Text":
    from mipo_eval.cli.render import inert

    line = inert(text)
    if style:
        line.stylize(style)
    return line


def _rate(score: "Score | None", *, interval: bool = True) -> "Text":
    if score is None or score.value is None:
        return _text("")
    cell = _text(f"{score.value:.1f}")
    if interval and score.ci95:
        cell.append(f" [{score.ci95[0]:.1f}, {score.ci95[1]:.1f}]", style="dim")
    return cell


def _kappa(of: "AgainstLabels", weight: str = "", *, interval: bool = True) -> "Text":
    from mipo_eval.cli.render import estimate

    value, ends = (getattr(of, f"{weight}kappa{part}") for part in ("", "_ci95"))
    return _text("") if value is None else estimate(value, ends if interval else None, ".2f")


def _habits(about: "Quality") -> "Table":
    """Return what else tells a judge's verdicts from judgement: places, length, one number."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", overflow="fold")
    unread = ", ".join(f"{n} x {why}" for why, n in about.unread.items())
    table.add_row("replies without an answer (%)", f"{about.unparsed_rate:.1f}", unread)
    if about.same_verdict_rate is not None:
        table.add_row("same verdict in both orders (%)", _rate(about.same_verdict_rate), "")
    if about.first_place_rate is not None:
        table.add_row(
            "chooses the first response (%)", _rate(about.first_place_rate), "50: no bias"
        )
    if about.orders is not None:
        orders = about.orders
        each = f"{orders.accuracy_straight:.1f}, in the other {orders.accuracy_swapped:.1f}"
        forced = "ratings turned into choices: " if about.ratings is not None else ""
        told = f"{forced}in the given order {each}; unread replies count as wrong"
        table.add_row("right in both orders (%)", f"{orders.accuracy_both:.1f}", told)
    if about.length is not None:
        length = about.length
        told = f"the labels {length.label:.1f}: {length.excess:+.1f} points, {length.n} pairs"
        table.add_row("prefers the longer response (%)", f"{length.judge:.1f}", told)
    if about.ratings is not None:
        spread = about.ratings
        counts = ", ".join(f"{rating:g} x {n}" for rating, n in spread.counts.items())
        table.add_row("entropy of its ratings (nats)", f"{spread.entropy:.2f}", counts)
    if about.calibration is not None:
        own = about.calibration
        brier = f"Brier {own.brier:.3f} (0.5: knows nothing)"
        told = f"right {own.accuracy:.1f} %, {brier}, {own.n} pairs"
        table.add_row("calibration error (0-1)", f"{own.ece:.3f}", told)
    return table


def _subsets(about: "Quality") -> "Table":
    table = _table("subset", "pairs", "strict", "tie-tolerant", "kappa")
    for name, own in about.subsets.items():
        rates = (_rate(own.strict), _rate(own.tie_tolerant, interval=False))
        table.add_row(
            _text(name or "(none)"), str(own.half_ties.n), *rates, _kappa(own, interval=False)
        )
    return table


def _published(rows: "Sequence[Published]", found: "Examination") -> "Table":
    """Return the paper's judges on the same kind of data, and this one below them."""
    title = f"Table 7 of the paper, {rows[0].dataset} (\u2020 other pairs, other calls)"
    table = _table(title, "strict", "tie-tolerant")
    for model in dict.fromkeys(row.model for row in rows):
        values = {row.method: f"{row.value:.1f}" for row in rows if row.model == model}
        table.add_row(f"{model} \u2020", values["strict"], values["tie-tolerant"], style="cyan")
    own = found.quality.judge
    table.add_row(_text(found.judge), _rate(own.strict), _rate(own.tie_tolerant, interval=False))
    return table


def _people(about: "Quality") -> "list[Text]":
    from mipo_eval.cli.render import interval

    parts = []
    for (i, j), own in about.people.items():
        kappa = "" if own.kappa is None else f", kappa {own.kappa:.2f}"
        parts.append(f"{i} and {j} agree on {own.share:.1f} %{kappa} ({own.n} pairs)")
    together = about.people_together
    if len(parts) > 1 and together.alpha is not None:
        ends = interval(together.alpha_ci95, ".2f")
        parts.append(f"all: Krippendorff's alpha {together.alpha:.2f} {ends}".rstrip())
    return [_text(f"People among themselves: {'; '.join(parts)}")] if parts else []


def _verdict(found: "Examination") -> "list[Text]":
    about, margin = found.quality, found.quality.over_longest
    if not found.kept:
        failed = f"{about.failed_calls} of {about.replies} replies are missing"
        return [_text(f"Not stored: {failed}. Repeat the command.", "bold red")]
    if not about.failings:
        interval = f" [{margin.ci95[0]:.1f}, {margin.ci95[1]:.1f}]" if margin.ci95 else ""
        ahead = f"{margin.value:+.1f}{interval} points better than choosing the longer response"
        return [_text(f"Passes: {ahead}.", "green")]
    reasons = [_text(f"Fails: {reason}.", "bold red") for reason in about.failings]
    return [*reasons, _text("Its verdicts are marked wherever they are shown.", "dim")]


def _attacked(found: "AttackReport", judge: str) -> "list[RenderableType]":
    """Return how often hostile responses won, over all and by kind."""
    met = f"{found.attacks} hostile responses, each against {found.items} honest ones"
    table = _table("hostile response", "wins (%)", "ties (%)", "a tie is half (%)", "pairs")
    for one in (*found.rates[1:], found.rates[0]):
        cells = (_rate(one.beats), f"{one.ties:.1f}", _rate(one.half), str(one.half.n))
        table.add_row(one.kind or "all", *cells)
    lines = [f"Won most often: {', '.join(found.worst)}."] if found.worst else []
    lines += [f"{found.undecided} pairs have no verdict."] if found.undecided else []
    signature = _text(found.rates[0].half.signature, "dim")
    return [_text(f"{judge}: {met}", "bold"), table, *(_text(line) for line in lines), signature]
