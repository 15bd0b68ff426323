"""How hard a law that hypothesis checks is tried; never how fast the machine is."""

import os

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("SOAK", "1"))


def tries(number: int) -> settings:
    """Try so often, the same every time, however slow that is."""
    return settings(
        max_examples=number * TIMES,
        deadline=None,
        derandomize=TIMES == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
