"""Where the session comes from, and what becomes of it."""

import os
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scrapper.errors import SettingsError
from scrapper.instagram.cookies_file import (
    SessionFileError,
    read_cookies_file,
    read_session_file,
)
from scrapper.instagram.login import Login

COOKIES = (
    "# Netscape HTTP Cookie File\r\n"
    "\r\n"
    "#HttpOnly_.instagram.com\tTRUE\t/\tTRUE\t0\tsessionid\tthe-session\r\n"
    ".instagram.com\tTRUE\t/\tTRUE\t4102444800\tcsrftoken\tthe-token\r\n"
    ".instagram.com\tTRUE\t/\tTRUE\t1000000000\told\texpired\r\n"
    ".example.com\tTRUE\t/\tTRUE\t0\tsessionid\tof-another-site\r\n"
    ".notinstagram.com\tTRUE\t/\tTRUE\t0\tsessionid\tof-another-site\r\n"
)
SLOW = settings(suppress_health_check=list(HealthCheck), deadline=None)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"])
def test_a_browsers_cookies_are_read(tmp_path: Path, prefix: bytes) -> None:
    path = write(tmp_path / "cookies.txt", prefix + COOKIES.encode())
    assert read_cookies_file(path) == {"sessionid": "the-session", "csrftoken": "the-token"}


@SLOW
@given(content=st.binary() | st.text().map(str.encode))
def test_any_file_is_cookies_or_a_clear_refusal(tmp_path: Path, content: bytes) -> None:
    for read in (read_cookies_file, read_session_file):
        path = write(tmp_path / "file", content)
        with pytest.raises(SessionFileError):
            read(path)


class Evil:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return eval, (f"__import__('pathlib').Path({str(self._path)!r}).mkdir()",)


@pytest.mark.parametrize("inside", [lambda evil: evil, lambda evil: {"sessionid": evil}])
def test_a_session_file_runs_no_code(tmp_path: Path, inside: Any) -> None:
    path = write(tmp_path / "session", pickle.dumps(inside(Evil(tmp_path / "made"))))
    with pytest.raises(SessionFileError):
        read_session_file(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "cookies.txt", COOKIES.encode())
    path.chmod(mode)
    with pytest.raises(SettingsError, match=r"INSTAGRAM_COOKIES_FILE: .* chmod 600"):
        Login(cookies_file=path)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to give a file away")
def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "cookies.txt", COOKIES.encode())
    os.chown(path, 12345, 12345)
    with pytest.raises(SettingsError, match="belongs to user 12345"):
        Login(cookies_file=path)


def test_a_changed_file_revives_a_session_that_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.instagram.login._SECONDS_BETWEEN_LOOKS", 0)
    path = write(tmp_path / "cookies.txt", COOKIES.encode())
    login = Login(cookies_file=path)
    session = login.session()
    assert session is not None
    login.note_ended(session)
    assert (login.session(), login.state.state) == (None, "expired")
    write(path, COOKIES.replace("the-session", "a-new-one").encode())
    again = login.session()
    assert again is not None
    assert again.cookies["sessionid"] == "a-new-one"
    assert login.state.state == "active"
    # What is said of the old session does not concern the new one.
    login.note_ended(session)
    assert login.session() == again


def test_a_file_that_becomes_damaged_leaves_the_session_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapper.instagram.login._SECONDS_BETWEEN_LOOKS", 0)
    path = write(tmp_path / "cookies.txt", COOKIES.encode())
    login = Login(cookies_file=path)
    write(path, b"nonsense")
    session = login.session()
    assert session is not None
    assert session.cookies["sessionid"] == "the-session"
    assert login.secrets == ("the-session", "the-token")


def test_the_state_says_since_when(tmp_path: Path) -> None:
    before = time.time()
    assert Login().state.state == "none"
    state = Login(cookies_file=write(tmp_path / "c", COOKIES.encode())).state
    assert state.since is not None
    assert before <= state.since <= time.time()
