"""Where the session comes from, how it is stored, and when it is replaced."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scrapper.errors import SettingsError
from scrapper.instagram.login.file import LoginFile
from scrapper.instagram.login.session import Login

COOKIES = (
    "# Netscape HTTP Cookie File\r\n"
    "\r\n"
    "#HttpOnly_.instagram.com\tTRUE\t/\tTRUE\t0\tsessionid\tthe-session\r\n"
    ".instagram.com\tTRUE\t/\tTRUE\t4102444800\tcsrftoken\tthe-token\r\n"
    ".instagram.com\tTRUE\t/\tTRUE\t1000000000\told\texpired\r\n"
    ".example.com\tTRUE\t/\tTRUE\t0\tsessionid\tof-another-site\r\n"
    ".notinstagram.com\tTRUE\t/\tTRUE\t0\tsessionid\tof-another-site\r\n"
)
SLOW = settings(suppress_health_check=list(HealthCheck))


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_file_writable_by_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "cookies.txt", COOKIES.encode())
    path.chmod(mode)
    with pytest.raises(SettingsError, match=r"INSTAGRAM_COOKIES_FILE: .* chmod 600"):
        Login(cookies_file=path)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to change a file's owner")
def test_file_owned_by_another_user_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "cookies.txt", COOKIES.encode())
    os.chown(path, 12345, 12345)
    with pytest.raises(SettingsError, match="belongs to user 12345"):
        Login(cookies_file=path)


def test_changed_file_replaces_an_ended_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.instagram.login.session._SECONDS_BETWEEN_RELOADS", 0)
    path = write(tmp_path / "cookies.txt", COOKIES.encode())
    login = Login(cookies_file=path)
    session = login.session()
    assert session is not None
    login.record_ended(session)
    assert (login.session(), login.state.state) == (None, "expired")
    write(path, COOKIES.replace("the-session", "a-new-one").encode())
    again = login.session()
    assert again is not None
    assert again.cookies["sessionid"] == "a-new-one"
    assert login.state.state == "active"
    # A report about the old session does not affect the new one.
    login.record_ended(session)
    assert login.session() == again


def test_damaged_file_does_not_replace_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.instagram.login.session._SECONDS_BETWEEN_RELOADS", 0)
    path = write(tmp_path / "cookies.txt", COOKIES.encode())
    login = Login(cookies_file=path)
    write(path, b"nonsense")
    session = login.session()
    assert session is not None
    assert session.cookies["sessionid"] == "the-session"
    assert login.secrets == ("the-session", "the-token")


def test_login_state_includes_its_start_time(tmp_path: Path) -> None:
    before = time.time()
    assert Login().state.state == "none"
    state = Login(cookies_file=write(tmp_path / "c", COOKIES.encode())).state
    assert state.since is not None
    assert before <= state.since <= time.time()


@pytest.fixture
def always_reloads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrapper.instagram.login.session._SECONDS_BETWEEN_RELOADS", 0)


def test_state_and_rotated_cookies_survive_a_restart(tmp_path: Path) -> None:
    cookies, stored = write(tmp_path / "cookies.txt", COOKIES.encode()), tmp_path / "login.json"
    login = Login(stored=LoginFile(stored), cookies_file=cookies)
    session = login.session()
    assert session is not None
    login.record_cookies(
        session, {"sessionid": "rotated-of-8-or-more", "csrftoken": "new-of-8-or-more"}
    )
    login = Login(stored=LoginFile(stored), cookies_file=cookies)
    session = login.session()
    assert session is not None
    assert session.cookies == {"sessionid": "rotated-of-8-or-more", "csrftoken": "new-of-8-or-more"}
    login.record_ended(session)
    assert Login(stored=LoginFile(stored), cookies_file=cookies).state.state == "expired"


def test_processes_share_one_login(tmp_path: Path, always_reloads: None) -> None:
    one, other = (Login(stored=LoginFile(tmp_path / "login.json")) for _ in range(2))
    one.use({"sessionid": "theirs-of-8-or-more"}, "someone")
    session = other.session()
    assert session is not None
    assert (session.cookies, session.username) == ({"sessionid": "theirs-of-8-or-more"}, "someone")
    other.record_challenged(session)
    assert (one.session(), one.state.state) == (None, "challenged")
    one.use({"sessionid": "mine-of-8-or-more"}, "someone")
    # One process's report about an old session does not replace another process's new one.
    other.record_cookies(
        session, {"sessionid": "theirs-of-8-or-more", "csrftoken": "rotated-of-8-or-more"}
    )
    again = other.session()
    assert again is not None
    assert again.cookies == {"sessionid": "mine-of-8-or-more"}


@SLOW
@given(content=st.binary() | st.text().map(str.encode))
def test_damaged_login_file_counts_as_no_login(tmp_path: Path, content: bytes) -> None:
    stored = write(tmp_path / "login.json", content)
    login = Login(stored=LoginFile(stored))
    assert (login.session(), login.state.state) == (None, "none")
    login.use({"sessionid": "new-of-8-or-more"}, "")
    assert Login(stored=LoginFile(stored)).state.state == "active"


@pytest.mark.parametrize("name", ["id", "cookies", "username", "state", "since", "imported"])
@pytest.mark.parametrize("value", [None, 1, [], {}, "x", [[[]]], float("nan"), 10**400])
def test_malformed_login_counts_as_no_login(tmp_path: Path, name: str, value: Any) -> None:
    stored = tmp_path / "login.json"
    Login(stored=LoginFile(stored)).use({"sessionid": "one-of-8-or-more"}, "someone")
    data = {**json.loads(stored.read_bytes()), name: value}
    write(stored, json.dumps(data).encode())
    login = Login(stored=LoginFile(stored))
    assert login.state.state in ("none", "active")
    if name not in ("id", "username", "imported", "since"):
        assert login.session() is None


def test_login_file_writable_by_others_is_not_used(tmp_path: Path) -> None:
    stored = tmp_path / "login.json"
    Login(stored=LoginFile(stored)).use({"sessionid": "one-of-8-or-more"}, "someone")
    stored.chmod(0o666)
    assert Login(stored=LoginFile(stored)).session() is None


def test_login_that_cannot_be_stored_works_in_memory(tmp_path: Path, always_reloads: None) -> None:
    (tmp_path / "file").touch()
    cookies = write(tmp_path / "cookies.txt", COOKIES.encode())
    login = Login(stored=LoginFile(tmp_path / "file" / "login.json"), cookies_file=cookies)
    assert login.session() is not None
    session = login.session()
    assert session is not None
    login.record_ended(session)
    assert (login.session(), login.state.state) == (None, "expired")


def test_secrets_of_earlier_sessions_are_still_redacted(tmp_path: Path) -> None:
    login = Login()
    for number in range(3):
        login.use({"sessionid": f"session-{number}"}, "")
    assert login.secrets == ("session-0", "session-1", "session-2")
