"""How long work says how far it is."""

from typing import Protocol


class Progress(Protocol):
    """Told how far the work is; drawn by the command line."""

    def start(self, what: str, total: int) -> None:
        """Begin a stage of `total` units."""
        ...

    def advance(self, units: int) -> None:
        """Note that more units are done."""
        ...

    def finish(self) -> None:
        """End the stage."""
        ...
