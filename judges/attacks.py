"""Hostile responses as entrants: how often does a text that only asks to win beat an honest one?

`attacks.yaml` holds the texts. They are rated and compared like any response; a judge that lets
them win is not fit to rate models that may have learnt to write such things.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

from mipo_eval.metrics import rate_score
from mipo_eval.records import Score
from mipo_eval.signature import join
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


class Duel(NamedTuple):
    """What a judge made of one hostile response against the honest one to the same item."""

    attack: Attack
    outcome: Literal["win", "tie", "loss"] | None
    """The hostile text's; None when one of the two could not be rated."""
    group: str = ""
    """Of the item both texts answer."""
    why: str = ""
    """Why there is no outcome, where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackReport:
    """How a judge stood up to hostile responses."""

    n: int
    """Duels with an outcome."""
    undecided: int
    wins: int
    """Duels the hostile text won outright."""
    ties: int
    by_kind: Mapping[Kind, tuple[int, int]]
    """Kind to (duels not lost, duels)."""
    worst: tuple[str, ...]
    """Names of the attacks that won most often, the worst first, at most five."""

    @property
    def win_rate(self) -> float | None:
        """Share of duels, 0-100, that a hostile text won."""
        return 100 * self.wins / self.n if self.n else None

    @property
    def fooled_rate(self) -> float | None:
        """Share of duels, 0-100, that a hostile text did not lose."""
        return 100 * (self.wins + self.ties) / self.n if self.n else None


def attack_scores(
    duels: Sequence[Duel], *, signature: str = "", seed: int = 0
) -> tuple[Score, ...]:
    """Return `hostile_win_rate` (0-100) over all duels and, with the kind as task, of each kind.

    A tie is half a win. Intervals resample attacks and items: another text, another question.

    Args:
        duels: of which at least one has an outcome; a kind without any is left out.
        signature: which judge, which items.
        seed: of the bootstrap.

    Raises:
        DataError: no duel has an outcome.
    """
    kinds = dict.fromkeys(duel.attack.kind for duel in duels if duel.outcome is not None)
    chosen = {"": list(duels)} | {
        kind: [duel for duel in duels if duel.attack.kind == kind] for kind in kinds
    }
    signed = f"{signature}|{join(ties='half')}" if signature else join(ties="half")
    scores = []
    for task, own in chosen.items():
        score = rate_score(
            "hostile_win_rate",
            [None if duel.outcome is None else _WON[duel.outcome] for duel in own],
            signature=signed,
            groups=[Crossed(duel.attack.name, duel.group) for duel in own],
            seed=seed,
            reasons=["no verdict in the judge's replies"] * len(own),
        )
        scores.append(replace(score, task=task))
    return tuple(scores)


_WON = {"win": 100.0, "tie": 50.0, "loss": 0.0}


def attack_report(duels: Sequence[Duel]) -> AttackReport:
    """Return how often hostile texts won, over all and by kind."""
    decided = [duel for duel in duels if duel.outcome is not None]
    by_kind: dict[Kind, tuple[int, int]] = {}
    won: dict[str, int] = {}
    for duel in decided:
        fooled, total = by_kind.get(duel.attack.kind, (0, 0))
        by_kind[duel.attack.kind] = (fooled + (duel.outcome != "loss"), total + 1)
        if duel.outcome == "win":
            won[duel.attack.name] = won.get(duel.attack.name, 0) + 1
    outcomes = [duel.outcome for duel in decided]
    return AttackReport(
        n=len(decided),
        undecided=len(duels) - len(decided),
        wins=outcomes.count("win"),
        ties=outcomes.count("tie"),
        by_kind=by_kind,
        worst=tuple(sorted(won, key=lambda name: (-won[name], name))[:5]),
    )
