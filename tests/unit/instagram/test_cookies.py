"""Which cookies and session files are accepted, and what is read from them."""

import json
import pickle
import string
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scrapper.instagram.login.cookie_texts import SECRET_COOKIES, parse_cookies, valid_cookies
from scrapper.instagram.login.cookies import (
    MAX_COOKIES_BYTES,
    SessionFileError,
    read_cookies_file,
    read_private,
    read_session_file,
)
from tests.unit.instagram.test_login import COOKIES, SLOW, write

SESSION = {"sessionid": "the-session"}


def line(
    name: str = "mid",
    value: str = "m",
    *,
    domain: str = ".instagram.com",
    expires: str = "0",
) -> str:
    return "\t".join([domain, "TRUE", "/", "TRUE", expires, name, value])


def parsed(*lines: str) -> dict[str, str]:
    """Parse *lines* and a line with a session, and return the cookies except the session."""
    text = "\n".join([line("sessionid", SESSION["sessionid"]), *lines])
    cookies = parse_cookies(text.encode())
    assert cookies.pop("sessionid") == SESSION["sessionid"]
    return cookies


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"])
def test_browser_cookies_are_read(tmp_path: Path, prefix: bytes) -> None:
    path = write(tmp_path / "cookies.txt", prefix + COOKIES.encode())
    assert read_cookies_file(path) == {"sessionid": "the-session", "csrftoken": "the-token"}


def exported(**more: Any) -> list[dict[str, Any]]:
    cookie = {"domain": ".instagram.com", "hostOnly": False, "path": "/", "sameSite": None, **more}
    return [
        {**cookie, "name": "sessionid", "value": "1%3Aabcdef%3A2", "expirationDate": 4102444800.5},
        {**cookie, "name": "mid", "value": "m", "session": True},
        {**cookie, "name": "old", "value": "o", "expirationDate": 1000000000},
        {**cookie, "name": "sessionid", "value": "other", "domain": ".example.com"},
    ]


@pytest.mark.parametrize("name", [[], {}, ["mid"], {"a": 1}, None, 7, True])
def test_cookie_whose_name_is_not_text_is_ignored(name: object) -> None:
    assert parsed_export(name=name) == {}


HEADER = "sessionid=1%3Aabcdef%3A2; mid=m"
WITH_TABS = COOKIES.replace("the-session", "1%3Aabcdef%3A2").replace(
    "csrftoken\tthe-token", "mid\tm"
)


@pytest.mark.parametrize(
    "text",
    [
        WITH_TABS,
        WITH_TABS.replace("\t", "    "),
        WITH_TABS.replace("\t", " ").replace("\r\n", "\n   "),
        json.dumps(exported()),
        json.dumps({"cookies": exported(), "origins": []}, indent=2),
        json.dumps({"sessionid": "1%3Aabcdef%3A2", "mid": "m"}),
        json.dumps(
            [
                {"Name raw": n, "Content raw": v}
                for n, v in (("sessionid", "1%3Aabcdef%3A2"), ("mid", "m"))
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
def test_cookies_are_read_in_every_common_format(text: str, encoding: str) -> None:
    expected = {"sessionid": "1%3Aabcdef%3A2", "mid": "m", "ds_user_id": "1"}
    assert parse_cookies(text.encode(encoding)) == expected


def parsed_export(**fields: Any) -> dict[str, str]:
    """Return the cookie with *fields*, as parsed from a JSON export that also has a session."""
    session = {"name": "sessionid", "value": "the-session", "domain": "instagram.com"}
    cookies = parse_cookies(json.dumps([session, {"name": "mid", "value": "m", **fields}]).encode())
    assert cookies.pop("sessionid") == "the-session"
    return cookies


@pytest.mark.parametrize("key", ["domain", "host", "Host raw"])
@pytest.mark.parametrize(
    ("domain", "is_instagram"),
    [
        (".instagram.com", True),
        ("Instagram.com", True),
        ("www.instagram.com", True),
        ("https://.instagram.com/", True),
        ("https://instagram.com/", True),
        ("https://i.instagram.com/", True),
        ("", True),
        (None, True),
        ("notinstagram.com", False),
        ("instagram.com.example", False),
        (7, False),
    ],
)
def test_only_instagram_cookies_in_an_export_are_read(
    key: str, domain: object, is_instagram: bool
) -> None:
    assert parsed_export(**{key: domain}) == ({"mid": "m"} if is_instagram else {})


@pytest.mark.parametrize("key", ["expirationDate", "expires", "Expires raw"])
@pytest.mark.parametrize(
    ("moment", "is_expired"),
    [
        (1000, True),
        ("1000", True),
        (0.5, True),
        (4102444800, False),
        (0, False),
        (-1, False),
        (10**15, False),
        ("9" * 400, False),
        (10**400, False),
        ("", False),
        ("soon", False),
        (None, False),
        ([], False),
    ],
)
def test_expired_cookies_in_an_export_are_left_out(
    key: str, moment: object, is_expired: bool
) -> None:
    assert parsed_export(**{key: moment}) == ({} if is_expired else {"mid": "m"})


@pytest.mark.parametrize(
    "data",
    [
        {"sessionid": "7:abcdef:1", "mid": "m"},
        {"cookies": {"sessionid": "7:abcdef:1", "mid": "m"}},
        {"cookies": [7, {"name": "sessionid", "value": "7:abcdef:1"}, {"name": "mid"}], "x": 1},
    ],
)
def test_json_of_every_shape_is_read(data: object) -> None:
    cookies = parse_cookies(json.dumps(data).encode())
    assert (cookies["sessionid"], cookies["ds_user_id"]) == ("7:abcdef:1", "7")


def test_nul_byte_after_the_start_is_part_of_the_text() -> None:
    assert parse_cookies(b"#x\0\n" + line("sessionid", "the-session").encode()) == SESSION


def test_utf16_text_is_read_in_both_byte_orders() -> None:
    for mark, encoding in ((b"\xfe\xff", "utf-16-be"), (b"\xff\xfe", "utf-16-le")):
        assert "mid" in parse_cookies(mark + HEADER.encode(encoding))


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        (line(), True),
        ("#HttpOnly_" + line(), True),
        ("  " + line() + " ", True),
        ("  #HttpOnly_" + line(), True),
        (line().replace("TRUE", "FALSE", 1), True),
        (line().replace("TRUE", "FALSE"), True),
        (line().replace("TRUE", "true"), True),
        ("# " + line().replace(".instagram.com\t", "instagram.com\t"), False),
        ("#" + line(), False),
        (line().replace("TRUE\t/", "YES\t/"), False),
        (line().replace("/\tTRUE", "/\tYES"), False),
        (line() + "\tmore", False),
        (line().replace("\tm", ""), False),
    ],
)
def test_cookie_line_needs_seven_fields_and_two_flags(text: str, is_read: bool) -> None:
    assert parsed(text, "# the end") == ({"mid": "m"} if is_read else {})


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        ("x" * 98 + " Cookie: sessionid=the-session", True),
        ("x" * 101 + " Cookie: sessionid=the-session", False),
        ("set-cookies sessionid=the-session", False),
        ("Cookie : sessionid=the-session", False),
        ("COOKIE:sessionid=the-session;", True),
    ],
)
def test_header_must_be_named_cookie(text: str, is_read: bool) -> None:
    if is_read:
        assert parse_cookies(text.encode()) == SESSION
    else:
        with pytest.raises(ValueError, match="No sessionid cookie"):
            parse_cookies(text.encode())


@pytest.mark.parametrize("value", [7, None, "", ["the-token"], {}])
def test_csrf_token_must_be_a_string(value: object) -> None:
    assert parsed_export(name="csrftoken", value=value) == {}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("others", [0, 300])
def test_sessions_in_every_pickle_protocol_are_read(
    tmp_path: Path, protocol: int, others: int
) -> None:
    # From the second occurrence on, a pickle refers to a string by its memo index.
    text = "the-same-text"
    cookies = {f"x{number}": f"value-{number}" for number in range(others)}
    cookies = {**cookies, "mid": text, "sessionid": text, "csrftoken": text}
    path = write(tmp_path / "session", pickle.dumps(cookies, protocol))
    found = read_session_file(path)
    assert (found["sessionid"], found["csrftoken"]) == (text, text)


def test_user_id_among_the_cookies_is_kept() -> None:
    text = "ds_user_id=9; sessionid=7%3Aabcdef%3A2"
    assert parse_cookies(text.encode())["ds_user_id"] == "9"


def test_session_id_alone_is_enough() -> None:
    assert parse_cookies(b" 7:abcdef%3A1\n") == {"sessionid": "7:abcdef%3A1", "ds_user_id": "7"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "No sessionid cookie"),
        (b"hello", "No sessionid cookie"),
        (b"{", "The JSON is incomplete"),
        (b"[]", "No sessionid cookie"),
        (b'{"sessionid": "no-number"}', "No sessionid cookie"),
        (b"Cookie: mid=m; csrftoken=c", "No sessionid cookie"),
        (COOKIES.replace("\t0\tsessionid", "\t1000\tsessionid").encode(), "has expired"),
        (b"\x89PNG\r\n\x1a\n\x00", "The content is not text"),
    ],
)
def test_error_for_wrong_text_describes_what_to_copy(content: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why) as raised:
        parse_cookies(content)
    assert "a cookies.txt" in str(raised.value)
    assert "developer tools" in str(raised.value)


# pickletools warns about escapes that no pickle has. By default, Python does not show this warning.
@pytest.mark.filterwarnings("ignore::DeprecationWarning:pickletools")
@SLOW
@given(content=st.binary() | st.text().map(str.encode))
@example(content=b"P\\\x00\n")
def test_file_without_cookies_is_refused(tmp_path: Path, content: bytes) -> None:
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
def test_session_file_cannot_run_code(tmp_path: Path, inside: Any) -> None:
    path = write(tmp_path / "session", pickle.dumps(inside(Evil(tmp_path / "made"))))
    with pytest.raises(SessionFileError):
        read_session_file(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("domain", "is_instagram"),
    [
        ("instagram.com", True),
        (".instagram.com", True),
        ("www.instagram.com", True),
        (".i.instagram.com", True),
        ("Instagram.COM", True),
        ("#HttpOnly_.instagram.com", True),
        ("#HttpOnly_www.instagram.com", True),
        ("#httponly_.instagram.com", False),
        ("#.instagram.com", False),
        ("notinstagram.com", False),
        ("instagram.com.evil.example", False),
        (".com", False),
        ("", False),
    ],
)
def test_cookies_of_other_sites_are_left_out(domain: str, is_instagram: bool) -> None:
    assert parsed(line(domain=domain)) == ({"mid": "m"} if is_instagram else {})


@pytest.mark.parametrize(
    ("expires", "is_read"),
    [
        ("0", True),
        ("4102444800", True),
        ("4102444800.5", True),
        ("", True),
        ("soon", True),
        ("nan", True),
        ("inf", True),
        ("-1", True),
        ("1", False),
        ("1000000000", False),
        ("1000000000.5", False),
    ],
)
def test_expired_cookie_is_left_out(expires: str, is_read: bool) -> None:
    assert parsed(line(expires=expires)) == ({"mid": "m"} if is_read else {})


@pytest.mark.parametrize(
    "other",
    [
        "",
        "# a comment",
        "nonsense",
        line().rpartition("\t")[0],
        line() + "\tmore",
        line(name=""),
        line(value=""),
        line(value="a b"),
        line(value="a;b"),
        line(value="a\\b"),
        line(value="\x7f"),
        line(value="é"),
        line(name="a b"),
        line(name="a=b"),
        line(name="x" * 257),
        line(value="x" * 4097),
    ],
)
def test_malformed_line_does_not_affect_other_lines(other: str) -> None:
    assert parsed(other, line()) == {"mid": "m"}
    assert parsed(other) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [("x" * 256, "x" * 4096), ("!#$%&'*+.^_`|~-", "!"), ("mid", '"a,b"'), ("mid", "1%3Aa%3A2")],
)
def test_every_cookie_valid_in_a_header_is_read(name: str, value: str) -> None:
    assert parsed(line(name, value)) == {name: value}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_break_is_accepted(end: str) -> None:
    text = end.join([line("sessionid", "the-session"), line(), ""])
    assert parse_cookies(text.encode()) == {"sessionid": "the-session", "mid": "m"}


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", line().encode(), b"\x00"])
def test_text_without_a_session_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"sessionid|not a text file"):
        parse_cookies(content)


@given(
    st.dictionaries(
        st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=20),
        st.text(string.ascii_letters + string.digits + "%:", min_size=1, max_size=80),
        max_size=50,
    )
)
def test_cookies_survive_a_round_trip_through_a_file(jar: dict[str, str]) -> None:
    # Other tests cover secret cookies, which are refused if they are short.
    jar = {name: value for name, value in jar.items() if name not in SECRET_COOKIES} | SESSION
    lines = [line(name, value) for name, value in jar.items()]
    assert parse_cookies("\n".join(lines).encode()) == jar


def test_a_hundred_cookies_are_kept_with_the_session_first() -> None:
    many = {f"c{number}": "x" for number in range(200)}
    kept = valid_cookies({**many, "csrftoken": "the-token", **SESSION})
    assert len(kept) == 100
    assert list(kept)[:2] == ["csrftoken", "sessionid"]
    assert list(kept)[2:] == list(many)[:98]


@pytest.mark.parametrize("pair", [(1, "x"), ("x", 1), (None, None), (b"x", "x"), ("x", b"x")])
def test_cookies_that_are_not_strings_are_left_out(pair: tuple[Any, Any]) -> None:
    cookies: dict[Any, Any] = {pair[0]: pair[1]}
    assert valid_cookies(cookies) == {}


@pytest.mark.parametrize(
    "data",
    [None, [], "text", {}, {"csrftoken": "t"}, {**SESSION, "x": 1}, {"sessionid": "s", 1: "x"}],
)
def test_malformed_session_file_is_refused(tmp_path: Path, data: object) -> None:
    path = write(tmp_path / "session", pickle.dumps(data))
    with pytest.raises(SessionFileError, match=str(path)):
        read_session_file(path)
    assert read_session_file(write(path, pickle.dumps(SESSION))) == SESSION


def test_cookies_file_over_one_megabyte_is_refused(tmp_path: Path) -> None:
    content = line("sessionid", "the-session").encode() + b"\n"
    path = write(tmp_path / "file", content + b"#" * (MAX_COOKIES_BYTES - len(content)))
    assert read_cookies_file(path) == {"sessionid": "the-session"}
    write(path, path.read_bytes() + b"#")
    with pytest.raises(SessionFileError, match="Larger than"):
        read_cookies_file(path)


def test_session_file_over_100_kilobytes_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "session", pickle.dumps(SESSION).ljust(100_000))
    assert read_session_file(path) == SESSION
    with pytest.raises(SessionFileError, match="Larger than"):
        read_session_file(write(path, path.read_bytes() + b" "))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(b".", "UnpicklingError", id="nothing"),
        pytest.param(b"Vtext\n.", "AttributeError", id="a string"),
        pytest.param(b"Va\nVb\nVc\ns.", "TypeError", id="an item of a string"),
        pytest.param(b"\x95" + b"\xff" * 8 + b".", "OverflowError", id="an endless frame"),
        pytest.param(b"}p2000000\n.", "other than strings", id="a huge memo index"),
        pytest.param(b"}(Vsessionid\n}u.", "other than strings", id="a nested dictionary"),
    ],
)
def test_crafted_session_file_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    with pytest.raises(SessionFileError, match=f"{tmp_path}.*{why}"):
        read_session_file(write(tmp_path / "session", content))


@pytest.mark.parametrize(("owner", "is_read"), [(0, True), (1000, True), (1001, False), (1, False)])
def test_file_must_belong_to_root_or_this_user(
    monkeypatch: pytest.MonkeyPatch, owner: int, is_read: bool
) -> None:
    def read(_: Path, max_bytes: int, check: Any) -> bytes:
        check(SimpleNamespace(st_uid=owner, st_mode=0o100600))
        return b"x"[:max_bytes]

    monkeypatch.setattr("scrapper.instagram.login.cookies.read_file", read)
    monkeypatch.setattr("os.getuid", lambda: 1000)
    if is_read:
        assert read_private(Path("file")) == b"x"
    else:
        with pytest.raises(SessionFileError, match=f"belongs to user {owner}"):
            read_private(Path("file"))


def test_error_for_a_missing_file_names_it(tmp_path: Path) -> None:
    for read in (read_cookies_file, read_session_file):
        with pytest.raises(SessionFileError, match="nothing"):
            read(tmp_path / "nothing")


def test_error_for_a_short_secret_names_its_cookie(tmp_path: Path) -> None:
    for short in (COOKIES.replace("the-session", "se%41sio"), COOKIES.replace("the-token", ",")):
        with pytest.raises(
            SessionFileError, match=r"(sessionid|csrftoken) cookie has fewer than 8"
        ):
            read_cookies_file(write(tmp_path / "cookies.txt", short.encode()))


def test_short_secret_from_instagram_is_dropped() -> None:
    assert valid_cookies({"sessionid": "the-session", "csrftoken": ","}) == {
        "sessionid": "the-session"
    }


def test_secret_of_eight_characters_is_kept() -> None:
    jar = {"sessionid": "12345678", "csrftoken": "%41234567"}
    assert valid_cookies(jar) == {"sessionid": "12345678"}
    assert valid_cookies({**jar, "csrftoken": "%412345678"})["csrftoken"] == "%412345678"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_session_that_contains_itself_is_refused(tmp_path: Path, protocol: int) -> None:
    data: dict[str, Any] = dict(SESSION)
    data["itself"] = data
    with pytest.raises(SessionFileError, match="something other than strings"):
        read_session_file(write(tmp_path / "session", pickle.dumps(data, protocol)))
