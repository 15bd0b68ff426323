"""`mipo-eval judge A B ...`: entrants of any kind against each other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from mipo_eval.cli import options
from mipo_eval.cli.options import examples
from mipo_eval.errors import ConfigError
from mipo_eval.evaluation.asked import EvaluationOptions

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from mipo_eval.cli.render import Output
    from mipo_eval.compare.examples import Contrast, Gap, Opinion
    from mipo_eval.compare.head_to_head import Contest, Match
    from mipo_eval.evaluation.generate import Evaluation
    from mipo_eval.evaluation.run import Result
    from mipo_eval.judges.judge import Judge, Protocol
    from mipo_eval.judges.panel import Panel
    from mipo_eval.records import Score
    from mipo_eval.stats.paired import Comparison
    from mipo_eval.store.engine import Store

_SHOWN, _IN_DOCUMENT = 2, 10
"""Items shown per entrant, of those that tell the two apart."""
_LETTERS = 240
"""Of a response, in the list of where entrants differ."""


@click.command(
    epilog=examples(
        "judge out/mipo out/sft --suite items.jsonl --judge gpt-4.1",
        "judge RUN RUN RUN --judge gpt-4.1 --until-decided",
    )
)
@click.argument("entrants", nargs=-1, metavar="A B ...")
@options.suite_option()
@options.judges_option
@click.option(
    "--protocol",
    type=click.Choice(["pairwise", "pairwise-tie", "rubric"]),
    help="pairwise: the judge chooses the better response, once in each order; pairwise-tie: it "
    "may also call a tie; rubric: it rates each response on each preference, and the ratings are "
    "compared.  [default: the preset's protocol, or pairwise]",
)
@click.option(
    "--panel",
    type=click.Choice(["mean", "majority", "sample"]),
    help="Also combine several judges into one verdict for each item: by their mean or their "
    "majority. sample: what judges like these say on average, with an interval that also holds for "
    "other such judges.",
)
@options.margin_option
@click.option(
    "--until-decided",
    is_flag=True,
    help="Judge items in a random order and stop as soon as the answer is clear: one is better, or "
    "(with --margin) both are equivalent. The intervals are valid whenever judging stops.",
)
@options.prompting_option
@options.system_option
@options.query_option
@options.decoding_option
@options.engine_option
@options.seed_option
@options.limit_option
@options.data_option
@options.max_cost_option
@options.batch_option
@options.plugin_option
@options.store_option
@options.json_option
def judge(  # noqa: PLR0913 - one parameter per flag
    entrants: tuple[str, ...],
    protocol: "Protocol | None",
    panel: "Panel | None",
    store: str,
    *,
    margin: float | None,
    until_decided: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Judge two or more models, runs or files against each other.

    An entrant is the beginning of a run's id, a model as --model names it (missing responses are
    generated), a file of responses (JSONL rows of {"item_id", "response"}, or the outputs of
    alpaca_eval), or `reference`. Without --suite, the items are those of the first run named.

    The judge sees each pair in both orders. If it then chooses the other response, that is a
    position flip and counts as a tie. docs/judge.md describes the --json document.
    """
    from mipo_eval.cli.evaluate import conclude
    from mipo_eval.cli.render import Output, inert
    from mipo_eval.compare.contest import build_contest
    from mipo_eval.compare.examples import example_json, examples, gap_json, gaps
    from mipo_eval.compare.head_to_head import contest_json, fight
    from mipo_eval.store.engine import Store
    from mipo_eval.store.judges import failing_judges

    output = Output(as_json=as_json)
    asked = EvaluationOptions(**given)
    _check_looks(asked, until_decided=until_decided)
    with Store.open(store) as opened:
        contest = build_contest(opened, asked, entrants, protocol, output, partial(_tell, output))
        contest = replace(contest, panel=panel, margin=margin, until_decided=until_decided)
        matches = fight(opened, contest, output)
        failing = failing_judges(opened)
        pairs: dict[tuple[str, str], list[Match]] = {}
        for match in matches:
            pairs.setdefault((match.task, match.second.label), []).append(match)
        each = _IN_DOCUMENT if as_json else _SHOWN
        apart = [examples(opened, found, each=each) for found in pairs.values()]
        wide = [(match, gaps(opened, match, most=2 * each)) for match in matches]
    unanswered = _unanswered(contest, matches)
    differ = [
        example_json(of_pair[0], example)
        for of_pair, found in zip(pairs.values(), apart, strict=True)
        for example in found
    ]
    gaps_found = [gap_json(match, gap) for match, found in wide for gap in found]
    told = {"differ_most": differ, "preference_gaps": gaps_found, "unanswered": unanswered}
    output.document(contest_json(contest, matches, failing) | told)
    output.show(*(inert(f"{e.label}  {e.about}") for e in contest.entrants))
    for of_pair, found in zip(pairs.values(), apart, strict=True):
        output.show(*_pair(of_pair, failing))
        output.show(*_gaps([gap for match, own in wide if match in of_pair for gap in own]))
        output.show(*_apart(of_pair[0], found))
    for line in _cut(contest.judges, matches):
        output.warn(line)
    output.suggest("Read every pair with its verdicts", "board")
    conclude(output, contest.judges, unanswered)


def _tell(output: "Output", store: "Store", evaluation: "Evaluation", result: "Result") -> None:
    """Show what an entrant that was asked now cost, and what it did not answer."""
    from mipo_eval.cli.evaluate import tell_of_model

    for line in tell_of_model(store, evaluation, result, output):
        output.warn(line)


def _check_looks(asked: EvaluationOptions, *, until_decided: bool) -> None:
    """Refuse to look again and again at what takes hours.

    Raises:
        ConfigError: judging is to stop early, and in a batch.
    """
    if until_decided and asked.batch:
        raise ConfigError(
            "--until-decided asks again after each few items, but a batch may take hours: leave "
            "one of --until-decided and --batch out"
        )


def _unanswered(contest: "Contest", matches: "Sequence[Match]") -> list[str]:
    """Return a line for each judge that could not judge most pairs."""
    from mipo_eval.cli.evaluate import complaints, failed_of

    by_key = {judge.key: judge for judge in contest.judges}
    return complaints(
        (by_key[match.judge_key], *failed_of(match.balance.win))
        for match in matches
        if match.judge_key
    )


def _cut(judges: "Sequence[Judge]", matches: "Sequence[Match]") -> list[str]:
    """Return what to do where judges were cut inside their thinking."""
    from mipo_eval.cli.evaluate import judge_cut_line
    from mipo_eval.judges.judge import CUT_JUDGE

    lines = []
    for judge in judges:
        of_judge = [m.balance.win.unscored_reasons for m in matches if m.judge_key == judge.key]
        if cut := sum(n for own in of_judge for why, n in own.items() if CUT_JUDGE in why):
            lines.append(judge_cut_line(judge, cut))
    return lines


def _pair(
    matches: "Sequence[Match]", failing: Mapping[str, Sequence[str]]
) -> "list[RenderableType]":
    """Return how two entrants came out in a task: a column per judge."""
    from rich.text import Text

    from mipo_eval.cli.render import Grid, failing_lines, inert, wrapped
    from mipo_eval.store.judges import MARK

    first, second = matches[0].first.label, matches[0].second.label
    title = f"{matches[0].task}: {first} against {second}, {len(matches[0].entries)} items"
    headers = []
    for match in matches:
        mark = f" {MARK}" if match.judge_key in failing else ""
        how = "by its ratings" if match.protocol == "rubric" else match.protocol
        headers.append(f"{match.judge}{mark}\n{how}")
    early = matches[0].stopped is not None
    kind = "[95 % confidence sequence]" if early else "[95 % interval]"
    table = Grid(kind, numbers=headers, wrap=True)
    for label, cell in _rows(first, second, early=early):
        cells = [cell(match) for match in matches]
        if any(cells):
            table.add(label, *cells)
    answers = [wrapped(line) for match in matches if (line := _answer(match, failing))]
    names = {match.judge_key: match.judge for match in matches if match.judge_key}
    remarks = [*failing_lines(failing, names), *_remarks(matches)]
    return [Text(""), inert(title, "bold"), *answers, table, *remarks]


def _answer(match: "Match", failing: Mapping[str, Sequence[str]]) -> str:
    """Return in one sentence who is better; nothing where the first row of the table says it."""
    from mipo_eval.dashboards.tables.headline import of_two

    if match.stopped or match.balance.net is None:
        return ""
    names = (match.first.label, match.second.label)
    doubts = failing.get(match.judge_key or "", ())
    return f"{match.judge}: {of_two('net_win_rate', match.balance.net, names, doubts)}"


def _rows(
    first: str, second: str, *, early: bool
) -> "list[tuple[str, Callable[[Match], str | Text]]]":
    from mipo_eval.cli.render import counted, estimate, mark_of, number, p_of, p_text
    from mipo_eval.reports.margins import margin_text

    def rate(score: "Score") -> "Text":
        return estimate(score.value, score.ci95)

    def difference(found: "Comparison | None", form: str) -> "str | Text":
        return estimate(found.difference, found.ci95, form) if found else ""

    def net(found: "Comparison | None") -> "str | Text":
        if found is None:
            return ""
        shown, mark = estimate(found.difference, found.ci95, "+.1f"), mark_of(found)
        return shown.append(f" {mark}") if mark else shown

    def margin(match: "Match") -> str:
        if (found := match.margin) is None:
            return ""
        return f"{margin_text(found, (first, second), 'net_win_rate')} (p {p_text(found.p)})"

    how = "at any stop" if early else "permutation"
    return [
        ("decision", _decided),
        (f"{first} is better (%)", lambda m: rate(m.balance.win)),
        ("tie (%)", lambda m: rate(m.balance.tie)),
        (f"{second} is better (%)", lambda m: rate(m.balance.loss)),
        (f"{first}, a tie is half (%)", lambda m: rate(m.balance.half)),
        ("net win rate (points)", lambda m: net(m.balance.net)),
        ("  detectable", _detectable),
        (f"  p ({how})", lambda m: p_of(m.balance.net) if m.balance.net else ""),
        ("  equivalent?", margin),
        ("difference of ratings (1-5)", lambda m: difference(m.balance.rating, "+.2f")),
        ("position flips (%)", lambda m: number(m.balance.flip_rate)),
        ("same response (a tie)", lambda m: str(m.balance.identical or "")),
        ("items judged (unscored)", lambda m: counted(m.balance.win.n, m.balance.win.unscored)),
    ]


def _decided(match: "Match") -> str:
    """Return what the answer is, and after how much of the suite; empty where all was asked."""
    if (found := match.stopped) is None:
        return ""
    told: dict[str, str] = {
        "first": f"{match.first.label} is better",
        "second": f"{match.second.label} is better",
    }
    if match.margin:
        told["equivalent"] = f"equivalent within \u00b1{match.margin.margin:g}"
    answer = told[found.decided] if found.decided else "not decided"
    return f"{answer} after {found.groups} of {found.n_groups} groups"


def _detectable(match: "Match") -> str:
    from mipo_eval.cli.render import number

    return number(match.balance.net.detectable if match.balance.net else None)


def _remarks(matches: "Sequence[Match]") -> "list[Text]":
    from mipo_eval.cli.render import inert, listed, mark_of

    lines = [
        inert(f"Unscored by {match.judge}: {listed(reasons)}", "yellow")
        for match in matches
        if (reasons := match.balance.win.unscored_reasons)
    ]
    if matches[0].stopped:
        lines += [inert(line, "dim") for line in _about_stopping(matches[0])]
    nets = [match.balance.net for match in matches if match.balance.net]
    legend = []
    if any(mark_of(net) == "*" for net in nets):
        legend.append("*: told apart at 5 %.")
    if any(net.detectable is not None for net in nets):
        legend.append("detectable: the smallest difference that 80 of 100 repetitions would show.")
    if any(match.judge == "panel (sample)" for match in matches):
        legend.append(
            "panel (sample): mean over judges; the interval also holds for other judges like these."
        )
    if any(net.p_adjusted is not None for net in nets):
        legend.append("p: corrected for the number of opponents (Holm).")
    if legend:
        lines += [inert(line, "dim") for line in legend]
    return [*lines, *(inert(match.signature, "dim") for match in matches)]


def _about_stopping(match: "Match") -> list[str]:
    """Return what intervals are where judging could stop early."""
    from mipo_eval.stats.bootstrap import Crossed
    from mipo_eval.stats.sequence import crossing_note

    lines = [
        "Intervals (confidence sequences) and p are valid whenever judging stops.",
        "They are wider than those of a fixed number of items.",
    ]
    groups = [Crossed(entry.item.group, entry.item.user_id) for entry in match.entries]
    note = crossing_note(groups)
    return [*lines, note] if note else lines


def _gaps(found: "Sequence[Gap]") -> "list[RenderableType]":
    from mipo_eval.cli.render import Grid

    if not found:
        return []
    numbers = ("mean ratings", "difference", "n")
    table = Grid("largest differences by preference", numbers=numbers)
    several = len({gap.judge for gap in found}) > 1
    for gap in found:
        table.add(
            f"{gap.judge}: {gap.preference}" if several else gap.preference,
            f"{gap.first:.2f} / {gap.second:.2f}",
            f"{gap.difference:+.2f}",
            str(gap.n),
        )
    return [table]


def _apart(match: "Match", found: "Sequence[Contrast]") -> "list[RenderableType]":
    from rich.padding import Padding
    from rich.text import Text

    from mipo_eval.cli.render import inert

    if not found:
        return []
    letters = {"a": match.first.label, "b": match.second.label, "tie": "tie", None: "none"}
    title = f"Where {letters['a']} and {letters['b']} differ most"
    parts: list[RenderableType] = [Text(title, style="bold")]
    for example in found:
        body = Text()
        for name, content in (
            ("prompt", example.item.transcript),
            *(("preference", wish) for wish in example.item.preferences),
            (letters["a"], example.first),
            (letters["b"], example.second),
        ):
            body.append(f"{name}: ", style="bold")
            body.append_text(inert(_short(content))).append("\n")
        for said in example.said:
            for line in _said(said, letters):
                body.append(f"[{said.judge}] ", style="dim").append_text(inert(line)).append("\n")
        head = inert(f"{example.item.item_id}: {letters[example.winner]} is better")
        parts += [head, Padding(body, (0, 0, 0, 2))]
    return parts


def _said(said: "Opinion", letters: Mapping[str | None, str]) -> list[str]:
    """Return what a judge said, line by line."""
    from mipo_eval.cli.render import number

    placed = [
        f"{letters[one.shown_first]} shown first: {_short(one.reply or 'no reply')}, which "
        f"means {letters[one.winner]}"
        for one in said.placed
    ]
    rated = [
        f"{letters['a']} {number(one.first, 'd', absent='none')}, "
        f"{letters['b']} {number(one.second, 'd', absent='none')}: {one.preference}"
        for one in said.rated
    ]
    return [*placed, *rated] or [letters[said.winner]]


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _LETTERS else f"{flat[: _LETTERS - 3]}..."
