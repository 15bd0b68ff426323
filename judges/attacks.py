"""Hostile responses as entrants: how often does a text that only asks to win beat an honest one?

`attacks.yaml` holds the texts. They are rated and compared like any response; a judge that lets
them win is not fit to rate models that may have learnt to write such things.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

from mipo_eval.errors import DataError
from mipo_eval.metrics.aggregate import rate_score
from mipo_eval.records import Score
from mipo_eval.signature import NOTHING, Signature, join
from mipo_eval.stats import Crossed

Kind = Literal[
    "instruction",
    "verdict",
    "delimiter",
    "turn",
    "authority",
    "persuasion",
    "unicode",
    "empty",
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


class HostileDuel(NamedTuple):
    """What a judge made of one hostile response against the honest one to the same item."""

    attack: Attack
    outcome: Literal["win", "tie", "loss"] | None
    """The hostile text's; None when one of the two could not be rated."""
    group: str = ""
    """Of the item both texts answer."""
    why: str = ""
    """Why there is no outcome, where there is none."""


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


def attack_report(
    duels: Sequence[HostileDuel], *, signature: Signature = NOTHING, seed: int = 0
) -> AttackReport:
    """Return how often hostile texts won, over all duels and then by kind, with intervals.

    They resample attacks and items: another text, another question.

    Args:
        duels: every attack against every item.
        signature: which judge, which items.
        seed: of the bootstrap.

    Raises:
        DataError: no duel has an outcome; says why the first has none.
    """
    decided = [duel for duel in duels if duel.outcome is not None]
    if not decided:
        raise DataError(
            f"the judge gave no verdict in any of {len(duels)} duels with hostile responses; the "
            f"first has none because: {duels[0].why if duels else 'no item has a reference'}"
        )
    kinds: list[Kind | None] = [None, *dict.fromkeys(duel.attack.kind for duel in decided)]
    of_kind = {kind: [d for d in duels if kind in {None, d.attack.kind}] for kind in kinds}
    won = Counter(duel.attack.name for duel in decided if duel.outcome == "win")
    hostile = {duel.attack.name for duel in duels}
    return AttackReport(
        items=len(duels) // len(hostile),
        attacks=len(hostile),
        undecided=len(duels) - len(decided),
        rates=tuple(_rates(kind, own, signature, seed) for kind, own in of_kind.items()),
        worst=tuple(sorted(won, key=lambda name: (-won[name], name))[:5]),
    )


def _rates(
    kind: Kind | None, duels: Sequence[HostileDuel], signature: Signature, seed: int
) -> AttackRates:
    def rate(metric: str, worth: Mapping[str, float], **ties: str) -> Score:
        return rate_score(
            metric,
            [None if duel.outcome is None else worth[duel.outcome] for duel in duels],
            signature=signature.followed_by(join(**ties)),
            groups=[Crossed(duel.attack.name, duel.group) for duel in duels],
            seed=seed,
            reasons=["no verdict in the judge's replies"] * len(duels),
        )

    beats = rate("hostile_beats_rate", {"win": 100.0, "tie": 0.0, "loss": 0.0}, ties="loss")
    half = rate("hostile_win_rate", {"win": 100.0, "tie": 50.0, "loss": 0.0}, ties="half")
    ties = sum(duel.outcome == "tie" for duel in duels)
    return AttackRates(kind, beats, 100 * ties / half.n, half)


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
