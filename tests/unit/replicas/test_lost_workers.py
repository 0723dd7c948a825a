"""When a worker counts as lost, so that other workers take over its messages."""

import math

import pytest

from scrapper.replicas.queue import ABANDONED_SECONDS, LATE_SECONDS, is_lost

DAY = 24 * 3600.0


@pytest.mark.parametrize(
    ("silent", "connected", "reachable", "lost"),
    [
        (ABANDONED_SECONDS - 1, False, math.inf, False),
        (ABANDONED_SECONDS, False, math.inf, True),
        (ABANDONED_SECONDS, True, math.inf, False),
        (LATE_SECONDS, True, math.inf, True),
        # Redis was down, so no heartbeat could arrive.
        (60.0, False, LATE_SECONDS - 1, False),
        (60.0, False, LATE_SECONDS, True),
        (60.0, True, LATE_SECONDS - 1, False),
        # The worker sent a heartbeat after the outage, then it was killed.
        (ABANDONED_SECONDS, False, ABANDONED_SECONDS + 1, True),
        (ABANDONED_SECONDS, False, ABANDONED_SECONDS - 1, False),
        # The worker handed the message back.
        (DAY, True, 0.0, True),
    ],
)
def test_a_silent_worker_is_lost_unless_it_may_be_late(
    silent: float, connected: bool, reachable: float, lost: bool
) -> None:
    assert is_lost(silent, connected=connected, reachable=reachable) is lost
