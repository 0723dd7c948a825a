"""A recurring problem is logged only now and then."""

from unittest.mock import patch

from scrapper.telemetry.log_throttle import LogThrottle


def test_a_message_is_due_once_until_reset() -> None:
    throttle = LogThrottle()
    assert [throttle.is_due("cause") for _ in range(3)] == [True, False, False]
    throttle.reset()
    assert throttle.is_due("cause")


def test_a_message_with_a_new_cause_is_due_at_once() -> None:
    throttle = LogThrottle()
    assert [throttle.is_due(cause) for cause in ("one", "two", "two")] == [True, True, False]


def test_a_message_is_due_again_after_the_interval() -> None:
    with patch("time.monotonic") as clock:
        clock.return_value = 5.0
        throttle = LogThrottle(60.0)
        assert throttle.is_due()
        clock.return_value = 64.9
        assert not throttle.is_due()
        clock.return_value = 65.0
        assert throttle.is_due()
