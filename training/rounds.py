"""Rounds: a training repeated, each time from the checkpoint it made and on what that one draws.

The paper trains once. Round 1 is the training as it is without rounds; each that follows is a
training of its own in the store, named by the one before it, so a chain grows at its end only.
"""

from dataclasses import dataclass
from typing import Literal

from mipo_eval.errors import ConfigError
from mipo_eval.keys import item_rng


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSettings:
    """How often, and against what, a training is repeated on its own checkpoint's responses."""

    number: int = 1
    """Rounds in all; in the store, which of them a training is."""
    reference: Literal["last", "first"] = "last"
    """What DPO holds a round to: the checkpoint it starts with, or the base model of the first."""


def check_rounds(rounds: RoundSettings, *, name: str, learns_from: str, algorithm: str) -> None:
    """Refuse rounds of a recipe that draws nothing beforehand, or a reference where there is none.

    Raises:
        ConfigError: in one line.
    """
    if rounds.number > 1 and learns_from in {"reference", "file", "prompts"}:
        why = {
            "reference": "learns the data set's texts",
            "file": "learns the pairs of a file",
            "prompts": "draws responses as it learns",
        }[learns_from]
        raise ConfigError(
            f"--rounds {rounds.number}: {name} {why}, so there is nothing to draw again "
            "from its checkpoint: rounds are for mipo, sft, sft-revision, sft-gt, info-nce and sami"
        )
    if rounds.reference == "first" and algorithm != "dpo":
        raise ConfigError(
            f"rounds.reference=first needs a reference model, which only DPO has; {name} is "
            f"trained by {algorithm}"
        )


def round_seed(seed: int, number: int) -> int:
    """Return the seed of a round's draws, data order and adapters; the first has the training's.

    Example:
        >>> round_seed(7, 1), round_seed(7, 2) == round_seed(7, 3)
        (7, False)
    """
    return seed if number == 1 else item_rng(seed, "round", str(number)).getrandbits(31)
