"""Where the session comes from, and what becomes of it."""

import json
import os
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scrapper.errors import SettingsError
from scrapper.instagram.login.cookie_texts import parse_cookies
from scrapper.instagram.login.cookies import (
    SessionFileError,
    read_cookies_file,
    read_session_file,
)
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
SLOW = settings(suppress_health_check=list(HealthCheck), deadline=None)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"])
def test_a_browsers_cookies_are_read(tmp_path: Path, prefix: bytes) -> None:
    path = write(tmp_path / "cookies.txt", prefix + COOKIES.encode())
    assert read_cookies_file(path) == {"sessionid": "the-session", "csrftoken": "the-token"}


def exported(**more: Any) -> list[dict[str, Any]]:
    cookie = {"domain": ".instagram.com", "hostOnly": False, "path": "/", "sameSite": None, **more}
    return [
        {**cookie, "name": "sessionid", "value": "1%3Aa%3A2", "expirationDate": 4102444800.5},
        {**cookie, "name": "mid", "value": "m", "session": True},
        {**cookie, "name": "old", "value": "o", "expirationDate": 1000000000},
        {**cookie, "name": "sessionid", "value": "other", "domain": ".example.com"},
    ]


HEADER = "sessionid=1%3Aa%3A2; mid=m"
WITH_TABS = COOKIES.replace("the-session", "1%3Aa%3A2").replace("csrftoken\tthe-token", "mid\tm")


@pytest.mark.parametrize(
    "text",
    [
        WITH_TABS,
        WITH_TABS.replace("\t", "    "),
        WITH_TABS.replace("\t", " ").replace("\r\n", "\n   "),
        json.dumps(exported()),
        json.dumps({"cookies": exported(), "origins": []}, indent=2),
        json.dumps({"sessionid": "1%3Aa%3A2", "mid": "m"}),
        json.dumps(
            [
                {"Name raw": n, "Content raw": v}
                for n, v in (("sessionid", "1%3Aa%3A2"), ("mid", "m"))
            ]
        ),
        HEADER,
        f"Cookie: {HEADER}",
        f"cookie:{HEADER};",
        f"Accept: */*\r\nCookie: {HEADER}\r\nHost: www.instagram.com\r\n",
        f"cookie\n{HEADER}\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_cookies_are_read_as_people_have_them(text: str, encoding: str) -> None:
    expected = {"sessionid": "1%3Aa%3A2", "mid": "m", "ds_user_id": "1"}
    assert parse_cookies(text.encode(encoding)) == expected


def test_the_value_of_the_session_alone_is_enough() -> None:
    assert parse_cookies(b" 7:abc%3A1\n") == {"sessionid": "7:abc%3A1", "ds_user_id": "7"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "There is no cookie sessionid"),
        (b"hello", "There is no cookie sessionid"),
        (b"{", "The JSON in it is not whole"),
        (b"[]", "There is no cookie sessionid"),
        (b'{"sessionid": "no number"}', "There is no cookie sessionid"),
        (b"Cookie: mid=m; csrftoken=c", "There is no cookie sessionid"),
        (COOKIES.replace("\t0\tsessionid", "\t1000\tsessionid").encode(), "has expired"),
        (b"\x89PNG\r\n\x1a\n\x00", "It is not a text"),
    ],
)
def test_a_wrong_paste_is_answered_by_what_was_expected(content: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why) as raised:
        parse_cookies(content)
    assert "a cookies.txt" in str(raised.value)
    assert "developer tools" in str(raised.value)


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
    monkeypatch.setattr("scrapper.instagram.login.session._SECONDS_BETWEEN_LOOKS", 0)
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
    monkeypatch.setattr("scrapper.instagram.login.session._SECONDS_BETWEEN_LOOKS", 0)
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


@pytest.fixture
def looks_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrapper.instagram.login.session._SECONDS_BETWEEN_LOOKS", 0)


def test_state_and_rotated_cookies_survive_a_restart(tmp_path: Path) -> None:
    cookies, stored = write(tmp_path / "cookies.txt", COOKIES.encode()), tmp_path / "login.json"
    login = Login(stored=LoginFile(stored), cookies_file=cookies)
    session = login.session()
    assert session is not None
    login.note_cookies(session, {"sessionid": "rotated", "csrftoken": "new"})
    login = Login(stored=LoginFile(stored), cookies_file=cookies)
    session = login.session()
    assert session is not None
    assert session.cookies == {"sessionid": "rotated", "csrftoken": "new"}
    login.note_ended(session)
    assert Login(stored=LoginFile(stored), cookies_file=cookies).state.state == "expired"


def test_all_processes_share_one_login(tmp_path: Path, looks_always: None) -> None:
    one, other = (Login(stored=LoginFile(tmp_path / "login.json")) for _ in range(2))
    one.use({"sessionid": "theirs"}, "someone")
    session = other.session()
    assert session is not None
    assert (session.cookies, session.username) == ({"sessionid": "theirs"}, "someone")
    other.note_challenged(session)
    assert (one.session(), one.state.state) == (None, "challenged")
    one.use({"sessionid": "mine"}, "someone")
    # What one process says of an old session does not undo what another has put in since.
    other.note_cookies(session, {"sessionid": "theirs", "csrftoken": "rotated"})
    again = other.session()
    assert again is not None
    assert again.cookies == {"sessionid": "mine"}


@SLOW
@given(content=st.binary() | st.text().map(str.encode))
def test_a_damaged_login_is_no_login(tmp_path: Path, content: bytes) -> None:
    stored = write(tmp_path / "login.json", content)
    login = Login(stored=LoginFile(stored))
    assert (login.session(), login.state.state) == (None, "none")
    login.use({"sessionid": "new"}, "")
    assert Login(stored=LoginFile(stored)).state.state == "active"


@pytest.mark.parametrize("name", ["id", "cookies", "username", "state", "since", "imported"])
@pytest.mark.parametrize("value", [None, 1, [], {}, "x", [[[]]], float("nan"), 10**400])
def test_a_login_of_another_shape_is_no_login(tmp_path: Path, name: str, value: Any) -> None:
    stored = tmp_path / "login.json"
    Login(stored=LoginFile(stored)).use({"sessionid": "one"}, "someone")
    data = {**json.loads(stored.read_bytes()), name: value}
    write(stored, json.dumps(data).encode())
    login = Login(stored=LoginFile(stored))
    assert login.state.state in ("none", "active")
    if name not in ("id", "username", "imported", "since"):
        assert login.session() is None


def test_a_login_that_others_could_have_written_is_not_used(tmp_path: Path) -> None:
    stored = tmp_path / "login.json"
    Login(stored=LoginFile(stored)).use({"sessionid": "one"}, "someone")
    stored.chmod(0o666)
    assert Login(stored=LoginFile(stored)).session() is None


def test_a_login_that_cannot_be_stored_holds_until_the_end(
    tmp_path: Path, looks_always: None
) -> None:
    (tmp_path / "file").touch()
    cookies = write(tmp_path / "cookies.txt", COOKIES.encode())
    login = Login(stored=LoginFile(tmp_path / "file" / "login.json"), cookies_file=cookies)
    assert login.session() is not None
    session = login.session()
    assert session is not None
    login.note_ended(session)
    assert (login.session(), login.state.state) == (None, "expired")


def test_the_secrets_of_earlier_sessions_stay_secret(tmp_path: Path) -> None:
    login = Login()
    for number in range(3):
        login.use({"sessionid": f"session-{number}"}, "")
    assert login.secrets == ("session-0", "session-1", "session-2")
