"""Retries and waiting, without a server."""

import asyncio

import pytest

from mipo_eval.models.base import Limits
from mipo_eval.models.retry import Sender, retry_after

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("2", 2.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("-1", None),
        ("nan", None),
        ("soon", None),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:13:10 GMT", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds


@pytest.mark.parametrize("header", ["301", "inf", "Wed, 15 Nov 2023 22:13:50 GMT"])
def test_a_retry_after_too_far_away_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match="asks to wait"):
        retry_after(header, NOW)


def test_waits_double_stay_below_their_limit_and_differ() -> None:
    limits = Limits(first_wait=1, longest_wait=6)
    waits = [[limits.wait(attempt, None) for _ in range(200)] for attempt in range(1, 6)]
    for low, high, drawn in zip((0.5, 1, 2, 3, 3), (1, 2, 4, 6, 6), waits, strict=True):
        assert low <= min(drawn) < max(drawn) <= high
    asked = [limits.wait(1, 3.0) for _ in range(200)]
    assert 3.0 <= min(asked) < max(asked) <= 3.3


def test_nothing_to_ask_ends_at_once() -> None:
    async def collect() -> list[object]:
        async def send(_: object) -> None:
            raise AssertionError("nothing to send")

        return [outcome async for outcome in Sender(Limits()).stream([], send)]  # type: ignore[arg-type]

    assert asyncio.run(collect()) == []
