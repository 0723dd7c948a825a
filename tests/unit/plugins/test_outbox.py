"""At most one notification of each kind is sent per hour. None is lost or sent twice."""

from pathlib import Path

import pytest

from scrapper.plugins.outbox import Message, Outbox
from tests.clock import Clock

HOUR = 3600


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notify.json"


@pytest.fixture
def outbox(path: Path, clock: Clock) -> Outbox:
    return Outbox(path, now=clock)


def job(number: int) -> Message:
    return Message("job", "done", f"number {number}")


def add(outbox: Outbox, number: int, target: str = "phone") -> None:
    outbox.add("job", str(number), [(target, job(number))])


def send(outbox: Outbox, target: str = "phone") -> list[str]:
    due = outbox.due(target)
    for message in due:
        outbox.record_sent(target, message)
    return [message.text for message in due]


def test_the_first_event_is_sent_at_once_and_others_hourly(outbox: Outbox, clock: Clock) -> None:
    add(outbox, 1)
    assert send(outbox) == ["number 1"]
    for number in (2, 3, 4):
        add(outbox, number)
        assert send(outbox) == []
    clock.now += HOUR - 1
    assert send(outbox) == []
    clock.now += 1
    [text] = send(outbox)
    assert text.startswith("number 4\n\n2 earlier notifications were held back")
    clock.now += HOUR
    assert send(outbox) == []


def test_kinds_and_targets_do_not_wait_for_each_other(outbox: Outbox) -> None:
    add(outbox, 1)
    add(outbox, 2, "mail")
    outbox.add("login", "expired", [("phone", Message("login", "login", "expired"))])
    assert send(outbox) == ["number 1", "expired"]
    assert send(outbox, "mail") == ["number 2"]


def test_an_event_during_a_delivery_is_not_lost(outbox: Outbox, clock: Clock) -> None:
    add(outbox, 1)
    [message] = outbox.due("phone")
    add(outbox, 2)
    outbox.record_sent("phone", message)
    clock.now += HOUR
    assert send(outbox) == ["number 2"]


def test_failures_are_retried_with_backoff(outbox: Outbox, clock: Clock) -> None:
    add(outbox, 1)
    pauses = []
    for _ in range(7):
        [message] = outbox.due("phone")
        pauses.append(outbox.record_failed("phone", message))
        assert outbox.due("phone") == []
        clock.now += pauses[-1]
    assert pauses == [5, 30, 300, 1800, 3600, 3600, 3600]
    add(outbox, 2)
    [message] = outbox.due("phone")
    assert (message.count, message.body) == (2, "number 2")


def test_a_restart_retries_at_once_and_repeats_nothing(
    outbox: Outbox, path: Path, clock: Clock
) -> None:
    add(outbox, 1)
    send(outbox)
    outbox.add("login", "expired", [("phone", Message("login", "login", "expired"))])
    outbox.record_failed("phone", outbox.due("phone")[0])
    restarted = Outbox(path, now=clock)
    restarted.retry_now()
    assert send(restarted) == ["expired"]
    assert send(Outbox(path, now=clock)) == []


def test_an_event_that_a_crash_repeats_counts_once(
    outbox: Outbox, path: Path, clock: Clock
) -> None:
    add(outbox, 1)
    restarted = Outbox(path, now=clock)
    add(restarted, 1)
    assert send(restarted) == ["number 1"]
    # A job may end in the same way twice.
    add(restarted, 2)
    add(restarted, 2)
    assert restarted.due("phone") == []
    clock.now += HOUR
    [message] = restarted.due("phone")
    assert message.count == 2


def test_a_notification_reports_that_the_problem_is_over(outbox: Outbox, clock: Clock) -> None:
    outbox.amend("job", "over")
    assert outbox.due("phone") == []
    add(outbox, 1)
    outbox.amend("job", "over")
    assert send(outbox) == ["over"]


@pytest.mark.parametrize("jump", [-30 * 24 * HOUR, 30 * 24 * HOUR])
def test_a_wrong_clock_causes_no_long_delay(outbox: Outbox, clock: Clock, jump: float) -> None:
    add(outbox, 1)
    send(outbox)
    add(outbox, 2)
    outbox.record_failed("phone", job(2))
    clock.now += jump
    assert send(outbox) == ["number 2"]


@pytest.mark.parametrize("damage", [None, b"", b"{", b"[]", b'{"waiting": {"phone": 1}}', b"\xff"])
def test_a_lost_or_damaged_file_loses_no_message(
    outbox: Outbox, path: Path, clock: Clock, damage: bytes | None
) -> None:
    add(outbox, 1)
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    assert [message.body for message in outbox.due("phone")] == ["number 1"]
    assert send(Outbox(path, now=clock)) == ["number 1"]


def test_two_processes_share_the_file(outbox: Outbox, path: Path, clock: Clock) -> None:
    other = Outbox(path, now=clock)
    add(outbox, 1)
    assert send(other) == ["number 1"]
    assert outbox.due("phone") == []
    add(other, 2)
    clock.now += HOUR
    assert send(outbox) == ["number 2"]


def test_a_read_only_disk_repeats_nothing(
    outbox: Outbox, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(outbox, 1)

    def refuse(*_: object) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr("scrapper.library.state_file.write_atomically", refuse)
    assert send(outbox) == ["number 1"]
    assert send(outbox) == []
    with pytest.raises(OSError, match="no space"):
        add(outbox, 2)


def test_a_long_text_is_truncated(outbox: Outbox) -> None:
    outbox.add("job", "1", [("phone", Message("job", "done", "\U0001f600" * 10_000))])
    assert [len(message.body) for message in outbox.due("phone")] == [1000]
