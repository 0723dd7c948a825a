import io
import json
import logging
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from scrapper.telemetry.logs import Scrubber, logs_to

Lines = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def lines_of() -> Lines:
    """Return a function that calls *emit*, and parses the lines that it logs."""

    def run(
        emit: Callable[[], object], *, level: str = "info", secrets: tuple[str, ...] = ()
    ) -> list[dict[str, Any]]:
        stream = io.StringIO()
        with logs_to(stream, level=level, style="json", scrubber=Scrubber(secrets)):
            emit()
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    return run


def fail() -> None:
    raise ValueError("https://cdn.example/x.mp4?oh=signature&oe=1")


def test_a_line_is_json_with_time_level_and_event(lines_of: Lines) -> None:
    [line] = lines_of(lambda: structlog.get_logger("x").info("hello\nthere", number=1))
    assert line.pop("timestamp").endswith("Z")
    assert line == {"level": "info", "event": "hello\nthere", "number": 1}


def test_values_bound_to_the_request_are_in_every_line(lines_of: Lines) -> None:
    def emit() -> None:
        with structlog.contextvars.bound_contextvars(request_id="mine"):
            structlog.get_logger("x").info("ours")
            logging.getLogger("aiohttp.server").error("theirs")

    assert [line["request_id"] for line in lines_of(emit)] == ["mine", "mine"]


def test_standard_loggers_and_warnings_have_the_same_format(lines_of: Lines) -> None:
    def emit() -> None:
        logging.getLogger("aiohttp.server").warning("a %s of theirs", "record")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("careful", UserWarning, stacklevel=1)

    record, warning = lines_of(emit)
    assert (record["event"], record["level"]) == ("a record of theirs", "warning")
    assert "UserWarning: careful" in warning["event"]


def test_wire_data_from_urllib3_is_not_logged(lines_of: Lines) -> None:
    def emit() -> None:
        wire = logging.getLogger("urllib3.connection")
        wire.warning("Failed to parse headers: Set-Cookie: sessionid=unknown-secret")
        logging.getLogger("urllib3.connectionpool").debug("GET /v.mp4?oh=signature")

    assert lines_of(emit, level="debug") == []


@pytest.mark.parametrize("name", ["structlog", "logging"])
def test_a_traceback_is_a_field_without_secrets(lines_of: Lines, name: str) -> None:
    def emit() -> None:
        try:
            fail()
        except ValueError:
            log: Any = structlog.get_logger() if name == "structlog" else logging.getLogger("x")
            log.exception("failed")

    [line] = lines_of(emit)
    assert "Traceback" in line["exception"]
    assert "ValueError" in line["exception"]
    assert "signature" not in json.dumps(line)


def test_long_texts_are_logged_without_their_middle(lines_of: Lines) -> None:
    def emit() -> None:
        log = structlog.get_logger()
        secret = "a long secret, which lies where the text is cut"
        text = "a" * 9_980 + f" {secret} " + "b" * 5_000_000 + "end"
        try:
            raise ValueError(text)
        except ValueError as error:
            log.exception("failed", cause=str(error), seen=[{"start": text}])

    [line] = lines_of(emit, secrets=("a long secret, which lies where the text is cut",))
    for value in (line["cause"], line["exception"], line["seen"][0]["start"]):
        assert "a" * 9_000 in value
        assert value.endswith("b" * 9_000 + "end")
        assert len(value) < 21_000
        assert "lies" not in value


def test_text_that_is_not_unicode_is_logged(lines_of: Lines) -> None:
    [line] = lines_of(lambda: structlog.get_logger("x").info("path", path="/\udcff"))
    assert line["path"] == "/\udcff"
    assert line["timestamp"].endswith("Z")


def test_the_level_of_other_logs_is_restored(lines_of: Lines) -> None:
    level = logging.getLogger().level
    lines_of(lambda: None, level="debug")
    assert logging.getLogger().level == level


def test_events_below_the_level_are_not_logged(lines_of: Lines) -> None:
    def emit() -> None:
        structlog.get_logger("x").info("no")
        logging.getLogger("x").info("no")
        structlog.get_logger("x").warning("yes")

    assert [line["event"] for line in lines_of(emit, level="warning")] == ["yes"]


SESSION = "12345678%3AaBcD-eF_g%3A12"


def test_secrets_are_removed_from_every_text(lines_of: Lines) -> None:
    class Thing:
        def __repr__(self) -> str:
            return "<Thing s3cret-key>"

    def emit() -> None:
        structlog.get_logger("x").info(
            "key s3cret-key",
            list=["s3cret-key", {"s3cret-key": ("s3cret-key",)}],
            thing=Thing(),
            set={"s3cret-key"},
            raw=b"s3cret-key",
        )
        logging.getLogger("aiohttp.server").error("Invalid header: X-API-Key: s3cret-key")
        try:
            raise ValueError("s3cret-key") from KeyError("s3cret-key")
        except ValueError:
            logging.getLogger("aiohttp.server").exception("s3cret-key", stack_info=True)

    lines = lines_of(emit, secrets=("s3cret-key", ""))
    assert len(lines) == 3
    assert "s3cret" not in json.dumps(lines)
    assert lines[0]["thing"] == "<Thing [secret]>"


@pytest.mark.parametrize(
    "text",
    [
        "/posts/{}",
        "{}",
        "sessionid={}; csrftoken=x",
        '"{}"',
        "b'{}\\r\\n'",
        "X-Key:\\n{}",
        "/a%2F{}%2Fb",
        "/a%252F{}",
        "?a={}",
    ],
)
@pytest.mark.parametrize(
    "form",
    [SESSION, unquote(SESSION), quote(SESSION, safe=""), SESSION.lower(), quote(SESSION[::-1])],
)
def test_a_session_id_is_found_in_every_encoding(text: str, form: str) -> None:
    scrubber = Scrubber([form if form not in (unquote(SESSION), quote(SESSION)) else SESSION])
    for logged in (form, unquote(form), quote(form, safe="")):
        scrubbed = scrubber.text(text.format(logged))
        assert unquote(form) not in unquote(unquote(scrubbed))


def test_every_byte_may_be_percent_encoded() -> None:
    encoded = "".join(f"%{byte:02x}" for byte in b"p\xc3\xa4ss-w0rd!")
    assert Scrubber(["p\u00e4ss-w0rd!"]).text(f"/posts/{encoded}/") == "/posts/[secret]/"


def test_a_secret_inside_a_word_is_kept() -> None:
    scrubber = Scrubber(["password", "info"])
    assert scrubber.text("passwords apassword information") == "passwords apassword information"
    assert scrubber.text("the password, info") == "the [secret], [secret]"


@pytest.mark.parametrize(
    "secret", [",", '"', ":", "a", "e", "{", "info", "request", "\\", "%", "1"]
)
def test_a_short_secret_does_not_break_the_line(lines_of: Lines, secret: str) -> None:
    def emit() -> None:
        structlog.get_logger("x").info("request", path=f"/health/{secret}", number=1, list=["x"])

    [line] = lines_of(emit, secrets=(secret,))
    assert (line["event"], line["level"], line["number"]) == ("request", "info", 1)
    assert line["path"].startswith("/health/")
    assert list(line) == ["path", "number", "list", "event", "level", "timestamp"]


@pytest.mark.parametrize(
    "text",
    [
        "https://cdn.example/v.mp4?stp=a&oh=SIGNATURE&oe=1",
        "url: /v/t50/x.mp4?oh=SIGNATURE (Caused by SSLError())",
        "'https://cdn.example/v.mp4?_nc_sid=x&oh=SIGNATURE'",
        "https://cdn.example/v.jpg?&oh=SIGNATURE",
        "https://cdn.example/v.jpg?_nc[0]=1&oh=SIGNATURE",
        f"https://cdn.example/v.jpg?{'a' * 5000}=SIGNATURE",
        "what?https://cdn.example/v.jpg??oh=SIGNATURE",
    ],
)
def test_the_query_of_a_url_is_removed(text: str) -> None:
    scrubbed = Scrubber().text(text)
    assert "SIGNATURE" not in scrubbed
    assert "[scrubbed]" in scrubbed


@given(
    before=st.text(),
    after=st.text(),
    secret=st.text('abcdefgh"\\\\ä%,', min_size=8, max_size=30).filter(
        lambda text: text.strip("\\")
    ),
)
def test_a_secret_that_is_a_token_is_always_removed(before: str, after: str, secret: str) -> None:
    text = Scrubber([secret]).text(f"{before} {secret} {after}")
    assert f" {secret} " not in text


def test_a_secret_that_becomes_known_later_is_removed() -> None:
    later: list[tuple[str, ...]] = [()]
    scrubber = Scrubber(["first"], lambda: later[0])
    assert scrubber.text("first second third") == "[secret] second third"
    later[0] = ("second",)
    assert scrubber.text("first second third") == "[secret] [secret] third"
    scrubber.follow(["third"], lambda: later[0])
    assert scrubber.text("first second third") == "[secret] [secret] [secret]"


def test_a_value_that_contains_itself_is_logged(lines_of: Lines) -> None:
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    [line] = lines_of(lambda: structlog.get_logger("x").info("loop", loop=loop))
    assert line["event"] == "loop"


def test_a_collector_that_does_not_read_never_blocks() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as collector, os.fdopen(writer, "w") as stream:
        with logs_to(stream, level="info", style="json"):
            log = structlog.get_logger("x")
            for number in range(20_000):
                log.info("filler" * 10, number=number)
            # This is reached only if no line above had to wait for the collector to read.
            drain = threading.Thread(target=collector.read)
            while b"log lines dropped" not in (line := collector.readline()):
                pass
            drain.start()
        stream.close()
        drain.join()
    assert json.loads(line)["lines"] > 0


def test_an_ascii_stream_escapes_other_characters(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w", encoding="ascii") as stream, logs_to(stream, level="info", style="json"):
        for text in ("plain", "caf\u00e9 \U0001f600 \ud800", "plain again"):
            structlog.get_logger().info(text)
    lines = path.read_text(encoding="ascii").splitlines()
    assert len(lines) == 3
    assert "caf" in lines[1]


class Flaky(io.StringIO):
    """A stream whose first writes fail; each raises one of the *errors*."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.failures = list(errors)

    def write(self, text: str) -> int:
        if self.failures:
            raise self.failures.pop(0)
        return super().write(text)


def test_logging_continues_after_any_stream_error() -> None:
    stream = Flaky(OSError(28, "No space left"), ValueError("closed"), RuntimeError("anything"))
    with logs_to(stream, level="info", style="json"):
        while not stream.getvalue():
            structlog.get_logger().info("again")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert "log lines dropped" in stream.getvalue()
