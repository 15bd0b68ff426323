"""How fast a server is asked.

Two things hold a try back before it is sent, beside the money (`prices`): the width (how many are
in flight, narrowed when the server is overloaded and widened again while it answers), and the pace
(requests and tokens a minute).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

_NARROWER = 0.7
_BURST_SECONDS = 1.0
"""How much unused pace may be caught up on at once."""


class Pace:
    """Spreads an amount a minute evenly over time; None is no limit.

    `clock` gives seconds that only go forward.
    """

    def __init__(
        self, per_minute: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds_each = 0.0 if per_minute is None else 60.0 / per_minute
        self._clock = clock
        self._free_at = clock()

    def reserve(self, amount: float) -> float:
        """Take `amount` and return the seconds to wait before using it."""
        now = self._clock()
        self._free_at = max(self._free_at, now - _BURST_SECONDS)
        wait = self._free_at - now
        self._free_at += amount * self._seconds_each
        return max(0.0, wait)

    def correct(self, amount: float) -> None:
        """Take `amount` more, or give some back, once the real amount is known."""
        self._free_at += amount * self._seconds_each


class Width:
    """How many tries are in flight at most; halfway between polite and greedy.

    Each overload (429, 5xx, timeout) takes three tenths off, but only once for all the tries that
    were in flight together; each reply adds its share of one back.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._now = float(most)
        self._in_flight = 0
        self._round = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def now(self) -> int:
        """The present limit."""
        return int(self._now)

    async def enter(self) -> int:
        """Wait for a place and return the round it belongs to."""
        while self._in_flight >= self.now:
            place = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            await place
        self._in_flight += 1
        return self._round

    def leave(self) -> None:
        """Give the place back; as many of the waiting look again as there are places."""
        self._in_flight -= 1
        free = self.now - self._in_flight
        while self._waiting and free > 0:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                free -= 1

    def widen(self) -> None:
        """Note a reply."""
        self._now = min(self._most, self._now + 1 / self._now)

    def narrow(self, round_: int) -> None:
        """Note an overload that a try of `round_` met."""
        if round_ == self._round:
            self._round += 1
            self._now = max(1.0, self._now * _NARROWER)
