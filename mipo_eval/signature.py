"""Signatures: one line that names every choice which changes a number, as sacreBLEU does it.

`suite:demo@1|items:3f2a91c4|judge:checker|prompt:9c1e02aa|ties:win|decoding:greedy|version:0.1.0`

Two numbers are comparable when their signatures are equal. Long contents (item lists, prompt
files) appear as the first eight hex digits of their digest.
"""

from mipo_eval.errors import ConfigError

_FORBIDDEN = ("|", "\n")


def short(digest: str) -> str:
    """Return the eight digits of a digest that signatures and tables show."""
    return digest[:8]


def join(**parts: str | int | None) -> str:
    """Return the signature of `parts`, in the order given; None leaves a part out.

    Raises:
        ConfigError: a value holds the separator or a line break, which would forge a part.
    """
    for name, value in parts.items():
        if any(mark in str(value) for mark in _FORBIDDEN):
            raise ConfigError(
                f"{name} {value!r} cannot stand in a signature: it holds '|' or a line break"
            )
    return "|".join(f"{name}:{value}" for name, value in parts.items() if value is not None)


def split(signature: str) -> dict[str, str]:
    """Return the parts of a signature, in order; the inverse of `join`."""
    return dict(part.partition(":")[::2] for part in signature.split("|") if part)


def differences(first: str, second: str) -> dict[str, tuple[str | None, str | None]]:
    """Return the parts in which two signatures differ, each with both values."""
    left, right = split(first), split(second)
    names = [*left, *(name for name in right if name not in left)]
    return {
        name: (left.get(name), right.get(name))
        for name in names
        if left.get(name) != right.get(name)
    }


def rule(signature: str) -> str:
    """Return the parts that say what a number is of and by which rules, not who answered how.

    Runs whose numbers share a rule stand in one row of a table.
    """
    who = {"judge", "seed", "prompting", "query", "decoding", "version"}
    return join(**{name: value for name, value in split(signature).items() if name not in who})
