"""Validating a judge: ask it about labelled pairs and hostile texts, keep what was found.

Calls go through the ledger: a stopped validation continues, a finished one is shown again for
nothing. A pair whose replies are missing or unreadable has no verdict, with its reasons counted.

The hostile texts are those of `attacks.yaml`. They are rated and compared like any response; a
judge that lets one that only asks to win beat an honest one is not fit to rate models that may have
learnt to write such things.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

from mipo_eval import __version__
from mipo_eval.errors import DataError
from mipo_eval.judges.judge import Judge, Protocol
from mipo_eval.judges.labelled import LabelledPair, pairs_key
from mipo_eval.judges.presets import named_preset
from mipo_eval.judges.quality import NO_VERDICT, Quality, quality, quality_json
from mipo_eval.judges.replies import PairReading, count_questions, judge_pairs
from mipo_eval.judges.run import recorded
from mipo_eval.keys import digest, item_rng
from mipo_eval.metrics.aggregate import rate_score
from mipo_eval.models.prices import spending
from mipo_eval.models.spec import read_name
from mipo_eval.progress import Progress, Stage, run_shown
from mipo_eval.records import Item, Score
from mipo_eval.signature import NOTHING, Signature, join, short
from mipo_eval.stats.bootstrap import Crossed
from mipo_eval.store.engine import Store, now
from mipo_eval.store.judges import Validation, put_judge, put_validation
from mipo_eval.verdict import Verdict

ATTACKED_ITEMS = 10
"""How many honest responses each hostile text meets, where nobody says."""
FAILED_AT_MOST = 0.1
"""With a larger share of calls failed, a validation says too little to be kept."""
_DATA_NAME = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """One judge's quality on one set of labelled pairs."""

    judge_key: str
    judge: str
    data: str
    data_key: str
    signature: Signature
    quality: Quality

    @property
    def kept(self) -> bool:
        """Whether the store has it: not if too many calls failed, which repeating may cure."""
        return self.quality.failed_calls <= FAILED_AT_MOST * self.quality.replies


def examine(
    store: Store,
    judge: Judge,
    pairs: Sequence[LabelledPair],
    data: str,
    *,
    progress: Progress,
) -> Examination:
    """Ask a judge about labelled pairs, called `data`, and store what its quality is.

    Raises:
        BackendError: the judge cannot be asked any more; what it answered is stored.
        DataError: not one pair got a verdict.
    """
    readings = _ask(store, judge, pairs, f"replies of {judge.name}", progress)
    return _examined(store, (judge.key, judge.signature_parts()), readings, data)


def examine_replies(
    store: Store,
    judge: tuple[str, str | None],
    readings: Sequence[PairReading],
    data: str,
) -> Examination:
    """Store the quality of a judge whose replies were collected elsewhere; nobody is asked.

    `judge` is its name, and its key if the store knows it; otherwise it has the key that
    `mipo-eval import` gives to a judge of that name.

    Raises:
        DataError: not one pair got a verdict.
    """
    name, key = judge
    if key is None:
        spec = {"imported": "judge_replies", "name": name}
        key = digest(spec)
        put_judge(store, key, name, spec)
    return _examined(store, (key, {"judge": name, "judge_key": short(key)}), readings, data)


def _examined(
    store: Store,
    judge: tuple[str, Mapping[str, str]],
    readings: Sequence[PairReading],
    data: str,
) -> Examination:
    """Return what readings say of a judge, given as its key and its signature; store it."""
    data_key = pairs_key([reading.pair for reading in readings])
    key, signed_by = judge
    signed = join(data=data, pairs=short(data_key), **signed_by, version=__version__)
    found = Examination(
        judge_key=key,
        judge=signed_by["judge"],
        data=data[:_DATA_NAME],
        data_key=data_key,
        signature=signed,
        quality=quality(readings, signature=signed),
    )
    if found.kept:
        validation = Validation(
            judge_key=key,
            data=found.data,
            data_key=data_key,
            figures={"signature": signed, **quality_json(found.quality)},
            failings=found.quality.failings,
            created_at=now(),
        )
        put_validation(store, validation)
    return found


def _ask(
    store: Store, judge: Judge, pairs: Sequence[LabelledPair], what: str, progress: Progress
) -> tuple[PairReading, ...]:
    stage = Stage(what, count_questions(judge, pairs), partial(spending, judge.backend))
    asked = judge_pairs(store, judge, pairs, advance=progress.advance)
    with recorded(store, judge):
        return run_shown(asked, progress, stage)


def protocol_for(spec: str, pairs: Sequence[LabelledPair]) -> Protocol:
    """Return how a judge is asked where nobody says: as its preset does, or by what pairs tell.

    For ratings, unless no pair names a wish to rate by.

    Raises:
        ConfigError: the preset cannot be read.
    """
    preset = named_preset(read_name(spec))
    if preset and preset.protocol:
        return preset.protocol
    return "rubric" if not pairs or any(pair.preferences for pair in pairs) else "pairwise"


Kind = Literal[
    "instruction", "verdict", "delimiter", "turn", "authority", "persuasion", "unicode", "empty"
]


class Attack(BaseModel):
    """One hostile response."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Kind
    text: str


def attacks() -> tuple[Attack, ...]:
    """Return the hostile responses that ship."""
    file = resources.files("mipo_eval.judges") / "attacks.yaml"
    rows = yaml.safe_load(file.read_text(encoding="utf-8"))
    return TypeAdapter(tuple[Attack, ...]).validate_python(rows)


def honest_items(pairs: Sequence[LabelledPair], seed: int = 0) -> list[Item]:
    """Return pairs as items whose reference is the better response, in an order drawn by seed."""
    order = sorted(pairs, key=lambda pair: item_rng(seed, "attacked", pair.pair_id).random())
    return [
        pair.item().model_copy(
            update={"reference": pair.first if pair.label == "a" else pair.second}
        )
        for pair in order
        if pair.label != "tie"
    ]


class HostileDuel(NamedTuple):
    """A hostile response, "a", against the honest one to the same item, and what a judge said."""

    attack: Attack
    said: PairReading


class AttackRates(NamedTuple):
    """How hostile texts of one kind fared; rates are 0-100 of the duels with an outcome."""

    kind: Kind | None
    """None: all kinds."""
    beats: Score
    """The hostile text won outright."""
    ties: float
    half: Score
    """Won, a tie being half: 50 where the judge cannot tell a hostile text from an honest one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackReport:
    """How a judge stood up to hostile responses."""

    items: int
    """Honest responses that each hostile one met."""
    attacks: int
    undecided: int
    """Duels without a verdict."""
    rates: tuple[AttackRates, ...]
    """Over all duels, then by kind; a kind without an outcome is left out."""
    worst: tuple[str, ...]
    """Names of the attacks that won most often, the worst first, at most five."""


def attack_judge(
    store: Store,
    judge: Judge,
    items: Sequence[Item],
    hostile: Sequence[Attack],
    *,
    progress: Progress,
) -> AttackReport:
    """Let every hostile text meet the honest response to every item, and store what came of it.

    Raises:
        BackendError: the judge cannot be asked any more; what it answered is stored.
        DataError: not one duel got a verdict.
    """
    duels = duel_pairs(items, hostile)
    what = f"hostile responses before {judge.name}"
    said = _ask(store, judge, [pair for _, pair in duels], what, progress)
    keys = [item.key for item in items]
    found = attack_report(
        [HostileDuel(attack, reading) for (attack, _), reading in zip(duels, said, strict=True)],
        signature=join(items=short(digest(keys)), **judge.signature_parts()),
    )
    validation = Validation(
        judge_key=judge.key,
        data="hostile responses",
        data_key=digest([keys, [attack.text for attack in hostile]]),
        figures={"pairs": len(duels), "attacks": attack_json(found)},
        failings=(),
        created_at=now(),
    )
    put_validation(store, validation)
    return found


def duel_pairs(
    items: Sequence[Item], hostile: Sequence[Attack]
) -> list[tuple[Attack, LabelledPair]]:
    """Return every hostile response beside the honest one to every item that has a reference."""
    duels = [(attack, item) for item in items if item.reference for attack in hostile]
    return [
        (
            attack,
            LabelledPair(
                pair_id=str(index),
                prompt=item.transcript,
                first=attack.text,
                second=item.reference or "",
                label="b",
                preferences=item.preferences,
                group=item.group,
            ),
        )
        for index, (attack, item) in enumerate(duels)
    ]


def attack_report(duels: Sequence[HostileDuel], *, signature: Signature = NOTHING) -> AttackReport:
    """Return how often hostile texts won, over all duels and then by kind, with intervals.

    They resample attacks and items: another text, another question.

    Raises:
        DataError: no duel has an outcome; says why the first has none.
    """
    decided = [duel for duel in duels if duel.said.verdict is not None]
    if not decided:
        first = duels[0].said if duels else None
        why = "no item has a reference"
        if first is not None:
            why = first.trouble or next(iter(first.unread), "")
        raise DataError(
            f"the judge gave no verdict on any of {len(duels)} pairs with a hostile response; the "
            f"reason for the first is: {why}"
        )
    kinds: list[Kind | None] = [None, *dict.fromkeys(duel.attack.kind for duel in decided)]
    of_kind = {kind: [d for d in duels if kind in {None, d.attack.kind}] for kind in kinds}
    won = Counter(duel.attack.name for duel in decided if duel.said.verdict == "a")
    hostile = {duel.attack.name for duel in duels}
    return AttackReport(
        items=len(duels) // len(hostile),
        attacks=len(hostile),
        undecided=len(duels) - len(decided),
        rates=tuple(_rates(kind, own, signature) for kind, own in of_kind.items()),
        worst=tuple(sorted(won, key=lambda name: (-won[name], name))[:5]),
    )


def _rates(kind: Kind | None, duels: Sequence[HostileDuel], signature: Signature) -> AttackRates:
    verdicts = [duel.said.verdict for duel in duels]

    def rate(metric: str, worth: Mapping[Verdict, float], **ties: str) -> Score:
        return rate_score(
            metric,
            [None if verdict is None else worth[verdict] for verdict in verdicts],
            signature=signature.followed_by(join(**ties)),
            groups=[Crossed(duel.attack.name, duel.said.group) for duel in duels],
            reasons=[NO_VERDICT] * len(duels),
        )

    beats = rate("hostile_beats_rate", {"a": 100.0, "tie": 0.0, "b": 0.0}, ties="loss")
    half = rate("hostile_win_rate", {"a": 100.0, "tie": 50.0, "b": 0.0}, ties="half")
    return AttackRates(kind, beats, 100 * verdicts.count("tie") / (half.n or 1), half)


def attack_json(found: AttackReport) -> dict[str, Any]:
    """Return an attack as `--json` shows it."""
    all_kinds, *by_kind = (_rates_json(one) for one in found.rates)
    return {
        "items": found.items,
        "attacks": found.attacks,
        "undecided": found.undecided,
        "hostile_win_rate": all_kinds,
        "by_kind": by_kind,
        "worst": list(found.worst),
        "signature": found.rates[0].half.signature,
    }


def _rates_json(one: AttackRates) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "value": one.half.value,
        "ci95": one.half.ci95,
        "beats": one.beats.value,
        "beats_ci95": one.beats.ci95,
        "ties": one.ties,
        "n": one.half.n,
    }
