"""Signatures: one line that names every choice which changes a number, as sacreBLEU does it.

`suite:demo@1|items:3f2a91c4|judge:checker|prompt:9c1e02aa|ties:win|decoding:greedy|version:0.1.0`

Two numbers are comparable when their signatures are equal. Long contents (item lists, prompt
files) appear as the first eight hex digits of their digest. The line is printed from its parts and
never read back: a store keeps the parts.
"""

from collections.abc import Mapping

from mipo_eval.errors import ConfigError

_FORBIDDEN = ("|", "\n")


class Signature(str):
    """A signature: a text that knows its parts. Equal texts have equal parts."""

    parts: Mapping[str, str]
    """Name to value, in the order they are printed."""

    def __new__(cls, parts: Mapping[str, object] | None = None) -> "Signature":
        """Print `parts`.

        Raises:
            ConfigError: a value holds the separator or a line break, which would forge a part.
        """
        kept = {name: str(value) for name, value in (parts or {}).items()}
        for name, value in kept.items():
            if any(mark in value for mark in _FORBIDDEN):
                raise ConfigError(
                    f"{name} {value!r} cannot stand in a signature: it holds '|' or a line break"
                )
        made = super().__new__(cls, "|".join(f"{name}:{value}" for name, value in kept.items()))
        made.parts = kept
        return made

    def __reduce__(self) -> tuple[type["Signature"], tuple[Mapping[str, str]]]:
        """Pickle and copy by the parts."""
        return Signature, (self.parts,)

    def followed_by(self, *others: "Signature") -> "Signature":
        """Return one signature of these parts and then those of others."""
        parts = dict(self.parts)
        for other in others:
            parts |= other.parts
        return Signature(parts)

    def less(self, *names: str) -> "Signature":
        """Return the signature without the parts of these names."""
        return Signature({name: part for name, part in self.parts.items() if name not in names})

    def differences(self, other: "Signature") -> dict[str, tuple[str | None, str | None]]:
        """Return the parts in which two signatures differ, each with both values."""
        names = [*self.parts, *(name for name in other.parts if name not in self.parts)]
        return {
            name: (self.parts.get(name), other.parts.get(name))
            for name in names
            if self.parts.get(name) != other.parts.get(name)
        }

    @property
    def rule(self) -> "Signature":
        """The parts that say what a number is of and by which rules, not who answered how.

        Runs whose numbers share a rule stand in one row of a table.
        """
        how = ("prompting", "query", "system", "system_role", "decoding", "thinking")
        return self.less("judge", "seed", *how, "version")


NOTHING = Signature()
"""Of a number with no choice to name."""


def in_signature(name: str) -> str:
    """Return a foreign name as a signature can hold it."""
    return " ".join(name.replace("|", "/").split())


def short(digest: str) -> str:
    """Return the eight digits of a digest that signatures and tables show."""
    return digest[:8]


def join(**parts: str | int | None) -> Signature:
    """Return the signature of `parts`, in the order given; None leaves a part out.

    Raises:
        ConfigError: a value holds the separator or a line break, which would forge a part.
    """
    return Signature({name: value for name, value in parts.items() if value is not None})
