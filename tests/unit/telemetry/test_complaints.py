"""A repeated complaint is logged only now and then."""

from unittest.mock import patch

from scrapper.telemetry.complaints import Complaint


def test_a_complaint_is_due_once_until_settled() -> None:
    complaint = Complaint()
    assert [complaint.is_due("away") for _ in range(3)] == [True, False, False]
    complaint.settle()
    assert complaint.is_due("away")


def test_another_cause_is_due_at_once() -> None:
    complaint = Complaint()
    assert [complaint.is_due(cause) for cause in ("one", "two", "two")] == [True, True, False]


def test_a_complaint_is_due_again_after_its_time() -> None:
    with patch("time.monotonic") as clock:
        clock.return_value = 5.0
        complaint = Complaint(60.0)
        assert complaint.is_due()
        clock.return_value = 64.9
        assert not complaint.is_due()
        clock.return_value = 65.0
        assert complaint.is_due()
