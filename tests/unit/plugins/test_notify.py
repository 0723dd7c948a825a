"""Which notifications are sent, with which text, and to which targets."""

import json
from pathlib import Path
from typing import Any

import pytest

from scrapper.errors import SettingsError
from scrapper.instagram.login.session import LoginState
from scrapper.jobs.model import JobPost, JobResponse
from scrapper.plugins import notify
from scrapper.plugins.conditions import Condition
from scrapper.settings import load_settings

pytestmark = [
    pytest.mark.blocks,
    # Apprise imports imghdr on versions of Python that still have it.
    pytest.mark.filterwarnings("ignore:'imghdr':DeprecationWarning"),
]
SECRET = "s3cret-token-of-the-tests"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDIA_ROOT", str(tmp_path))
    (tmp_path / ".state").mkdir()
    for name in ("NOTIFY_URLS", "NOTIFY_EVENTS"):
        monkeypatch.delenv(name, raising=False)


def configure(monkeypatch: pytest.MonkeyPatch, urls: str, events: str = "") -> None:
    monkeypatch.setenv("NOTIFY_URLS", urls)
    monkeypatch.setenv("NOTIFY_EVENTS", events)
    notify.configure(load_settings())


def waiting(tmp_path: Path) -> dict[str, list[str]]:
    """Return the kinds of messages in the outbox, by target."""
    path = tmp_path / ".state/notify.json"
    if not path.exists():
        return {}
    kept: dict[str, Any] = json.loads(path.read_text())["waiting"]
    return {target: sorted(kinds) for target, kinds in kept.items()}


def job(*states: Any, state: Any = "done") -> JobResponse:
    posts = [
        JobPost(f"https://www.instagram.com/p/post-{number}/", f"post-{number}", one, error="gone")
        for number, one in enumerate(states)
    ]
    return JobResponse("id", state, "2026-01-15T12:00:00Z", posts, False, "none")


def report_all() -> None:
    notify.job_finished(job("done", "failed"))
    notify.login_changed(LoginState("expired", "anna", 1.0))
    for name in ("disk_nearly_full", "instagram_refuses"):
        notify.condition_changed(Condition(name, holds=True))


EVERY = ["disk", "instagram", "job", "login", "posts"]
TWO = f"json://127.0.0.1:1/{SECRET} mail=mailto://user:{SECRET}@example.com"


@pytest.mark.parametrize(
    ("urls", "events", "expected"),
    [
        (f"ntfy://127.0.0.1:1/{SECRET}", "", {"1": EVERY}),
        (TWO, "", {"1": EVERY, "mail": EVERY}),
        (TWO.replace(" ", ", "), "login,disk", {"1": ["disk", "login"], "mail": ["disk", "login"]}),
        (TWO, "mail=job", {"1": EVERY, "mail": ["job"]}),
        (TWO, "login 1=posts,job", {"1": ["job", "posts"], "mail": ["login"]}),
        (f"json://127.0.0.1:1/?to=a,b&x=y={SECRET}", "", {"1": EVERY}),
    ],
)
def test_events_go_to_the_configured_targets(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    urls: str,
    events: str,
    expected: dict[str, list[str]],
) -> None:
    configure(monkeypatch, urls, events)
    report_all()
    assert waiting(tmp_path) == expected
    assert SECRET not in (tmp_path / ".state/notify.json").read_text()


@pytest.mark.parametrize(
    ("urls", "events", "message"),
    [
        ("", "", "NOTIFY_URLS: number 1 is not an Apprise URL"),
        (SECRET, "", "NOTIFY_URLS: number 1 is not an Apprise URL"),
        (f"ntfy://{SECRET} {SECRET}", "", "NOTIFY_URLS: number 1 is not an Apprise URL"),
        (f"nowhere://{SECRET}", "", "NOTIFY_URLS: Apprise cannot use the URL of 1"),
        (f"a=json://host a=json://{SECRET}", "", "NOTIFY_URLS: list at most"),
        (f"json://{SECRET} " * 21, "", "NOTIFY_URLS: list at most 20 targets"),
        (f"json://{SECRET}", "weather", "NOTIFY_EVENTS: write one list"),
        (f"json://{SECRET}", "job login", "NOTIFY_EVENTS: write one list"),
        (f"json://{SECRET}", "phone=job", "NOTIFY_EVENTS: NOTIFY_URLS has no target called phone"),
    ],
)
def test_errors_in_settings_do_not_quote_the_url(
    monkeypatch: pytest.MonkeyPatch, urls: str, events: str, message: str
) -> None:
    with pytest.raises(SettingsError) as raised:
        configure(monkeypatch, urls, events)
    assert str(raised.value).startswith(message)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("finished", "kinds"),
    [
        (job("done", "done"), ["job"]),
        (job("failed"), ["job", "posts"]),
        (job("done", "cancelled", state="cancelled"), []),
        (job("failed", "cancelled", state="cancelled"), ["posts"]),
    ],
)
def test_a_job_sends_only_useful_messages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, finished: JobResponse, kinds: list[str]
) -> None:
    configure(monkeypatch, "json://127.0.0.1:1")
    notify.job_finished(finished)
    assert waiting(tmp_path).get("1", []) == kinds


def test_events_that_need_no_attention_are_not_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configure(monkeypatch, "json://127.0.0.1:1")
    notify.login_changed(LoginState("active", "anna", 1.0))
    notify.login_changed(LoginState("none", None, 2.0))
    notify.condition_changed(Condition("disk_nearly_full", holds=False))
    assert waiting(tmp_path) == {}


def test_a_job_with_many_failures_lists_only_some(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configure(monkeypatch, "json://127.0.0.1:1")
    notify.job_finished(job(*["failed"] * 8))
    kept = json.loads((tmp_path / ".state/notify.json").read_text())["waiting"]["1"]["posts"]
    assert kept["title"] == "8 posts of a job failed"
    assert kept["body"].splitlines()[0] == "https://www.instagram.com/p/post-0/: gone"
    assert kept["body"].splitlines()[5:] == ["and 3 more"]
