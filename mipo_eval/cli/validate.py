"""`mipo-eval validate JUDGE`: how good a judge is, before its verdicts are believed."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mipo_eval.cli.options import batch_option, json_option, max_cost_option, store_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mipo_eval.cli.output import Output
    from mipo_eval.judges import Judge
    from mipo_eval.judges.attacks import AttackReport
    from mipo_eval.judges.labelled import LabelledPair
    from mipo_eval.judges.validate import Examination
    from mipo_eval.store import Store

_STORE = "store:"


@click.command()
@click.argument("judge")
@click.option(
    "--data",
    metavar="NAME|FILE",
    help="llmbar, judgebench, pandalm, psoups, ca, prism, pairs in a FILE.jsonl, or store:WHO.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the named sets. [default: MIPO_EVAL_DATA or ./data]",
)
@click.option(
    "--replies",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    metavar="FILE",
    help="Replies collected elsewhere: nobody is asked, JUDGE only names whose they are.",
)
@click.option(
    "--protocol",
    type=click.Choice(["rubric", "pairwise", "pairwise-tie"]),
    help="Default: rubric where the pairs name preferences, else pairwise.",
)
@click.option(
    "--prompt",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Prompt of your own, with the slots of the protocol.",
)
@click.option("--attack", is_flag=True, help="Also set hostile responses against honest ones.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Only the first N pairs of each subset; with --attack, N honest responses (default 10).",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of intervals and attacks.")
@max_cost_option
@batch_option
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
    """Measure a judge against labels that people, or a rule, gave to pairs of responses.

    JUDGE is what --judge takes in the main job. Its accuracy stands beside that of a judge that
    always ties and of one that picks the longer response; a judge that is constant or no better
    than the longer response is marked wherever its verdicts are shown. --attack alone sets the
    hostile responses against the demo world's references.

    A line of FILE.jsonl: {"prompt", "first", "second", "label": "a"|"b"|"tie", and if known
    "preferences": [...], "annotators": ["a", ...], "group", "subset"}, or {"prompt", "chosen",
    "rejected"}. store:WHO takes what WHO labelled on the board, store:people what everybody did.
    """
    from mipo_eval import settings
    from mipo_eval.cli.output import Output
    from mipo_eval.errors import ConfigError
    from mipo_eval.judges import load_judge
    from mipo_eval.judges.validate import examine, protocol_for
    from mipo_eval.models.base import Purse
    from mipo_eval.store import Store

    output = Output(as_json=as_json)
    folder = data_dir or settings.data_dir()
    if replies and (data is None or attack or protocol or prompt):
        raise ConfigError("--replies goes with --data alone: nobody is asked")
    if data is None and not attack:
        raise ConfigError("nothing to validate with: name labelled pairs with --data, or --attack")
    examined: Examination | None = None
    attacked: AttackReport | None = None
    with Store.open(store) as opened:
        if replies and data is not None:
            examined = _from_replies(opened, judge, (data, folder, replies), (limit, seed))
        else:
            pairs = _pairs(opened, data, folder, limit) if data is not None else ()
            asked = load_judge(
                judge,
                protocol=protocol or protocol_for(judge, pairs),
                prompt_file=prompt,
                limits=None if max_cost is None else Purse(max_cost),
                batch=batch,
            )
            if data is not None:
                examined = examine(opened, asked, pairs, _shown(data), seed=seed, progress=output)
            if attack:
                attacked = _attack(opened, asked, pairs, (limit, seed), output)
    _print(output, judge, examined, attacked, as_json=as_json)


def _shown(data: str) -> str:
    """Return what pairs are called: a set's name, or a file's without its folders."""
    return Path(data).name if data.endswith(".jsonl") else data


def _pairs(
    store: "Store", data: str, folder: Path, limit: int | None
) -> "tuple[LabelledPair, ...]":
    from mipo_eval.judges.labelled import first_of_each
    from mipo_eval.judges.people import people_pairs
    from mipo_eval.tasks.pairs import load_pairs

    if data.startswith(_STORE):
        pairs = people_pairs(store, data.removeprefix(_STORE).split(","))
    else:
        pairs = load_pairs(data, folder)
    return first_of_each(pairs, limit)


def _from_replies(
    store: "Store",
    judge: str,
    where: tuple[str, Path, tuple[Path, ...]],
    how: tuple[int | None, int],
) -> "Examination":
    from mipo_eval.judges.labelled import first_of_each
    from mipo_eval.judges.people import people_pairs
    from mipo_eval.judges.replies import read_replies
    from mipo_eval.judges.validate import examine_replies
    from mipo_eval.store.judges import list_judges
    from mipo_eval.tasks.pairs import load_replies

    data, folder, files = where
    limit, seed = how
    if data.startswith(_STORE):
        readings = read_replies(files[0], people_pairs(store, data.removeprefix(_STORE).split(",")))
    else:
        readings = load_replies(data, folder, files)
    kept = set(first_of_each([reading.pair for reading in readings], limit))
    chosen = [reading for reading in readings if reading.pair in kept]
    known = [j for j in list_judges(store) if judge == j.name or j.key.startswith(judge)]
    named = (known[0].name, known[0].key) if len(known) == 1 else (judge, None)
    return examine_replies(store, named, chosen, _shown(data), seed=seed)


def _attack(
    store: "Store",
    judge: "Judge",
    pairs: "Sequence[LabelledPair]",
    how: tuple[int | None, int],
    output: "Output",
) -> "AttackReport":
    from mipo_eval.demo import world
    from mipo_eval.judges.attacks import attacks
    from mipo_eval.judges.validate import ATTACKED_ITEMS, attack_judge, honest_items
    from mipo_eval.keys import item_rng

    limit, seed = how
    demo = sorted(world.items("test"), key=lambda item: item_rng(seed, item.item_id).random())
    items = (honest_items(pairs, seed) if pairs else demo)[: limit or ATTACKED_ITEMS]
    return attack_judge(store, judge, items, attacks(), seed=seed, progress=output)


def _print(
    output: "Output",
    judge: str,
    examined: "Examination | None",
    attacked: "AttackReport | None",
    *,
    as_json: bool,
) -> None:
    from mipo_eval.cli.quality import attack_tables, examined_json, quality_tables
    from mipo_eval.judges.attacks import attack_json

    if as_json:
        document: dict[str, object] = {"judge": judge}
        if examined is not None:
            document |= examined_json(examined)
        if attacked is not None:
            document["attacks"] = attack_json(attacked)
        output.document(document)
        return
    if examined is not None:
        output.show(*quality_tables(examined))
    if attacked is not None:
        output.show(*attack_tables(attacked, judge))
