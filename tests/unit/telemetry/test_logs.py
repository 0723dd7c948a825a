import io
import json
import logging
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from scrapper.telemetry.logs import logs_to, scrubber

Lines = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def lines_of() -> Lines:
    """What *speak* logs, as objects."""

    def run(
        speak: Callable[[], object], *, level: str = "info", secrets: tuple[str, ...] = ()
    ) -> list[dict[str, Any]]:
        stream = io.StringIO()
        with logs_to(stream, level=level, style="json", secrets=secrets):
            speak()
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    return run


def fail() -> None:
    raise ValueError("https://cdn.example/x.mp4?oh=signature&oe=1")


def test_a_line_is_one_json_object_with_time_level_and_event(lines_of: Lines) -> None:
    [line] = lines_of(lambda: structlog.get_logger("x").info("hello\nthere", number=1))
    assert line.pop("timestamp").endswith("Z")
    assert line == {"level": "info", "event": "hello\nthere", "number": 1}


def test_what_is_bound_to_the_request_is_in_every_line(lines_of: Lines) -> None:
    def speak() -> None:
        with structlog.contextvars.bound_contextvars(request_id="mine"):
            structlog.get_logger("x").info("ours")
            logging.getLogger("aiohttp.server").error("theirs")

    assert [line["request_id"] for line in lines_of(speak)] == ["mine", "mine"]


def test_python_s_own_loggers_and_warnings_come_the_same_way(lines_of: Lines) -> None:
    def speak() -> None:
        logging.getLogger("urllib3").warning("a %s of theirs", "record")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("careful", UserWarning, stacklevel=1)

    record, warning = lines_of(speak)
    assert (record["event"], record["level"]) == ("a record of theirs", "warning")
    assert "UserWarning: careful" in warning["event"]


@pytest.mark.parametrize("name", ["structlog", "logging"])
def test_a_traceback_is_a_field_without_secrets(lines_of: Lines, name: str) -> None:
    def speak() -> None:
        try:
            fail()
        except ValueError:
            log: Any = structlog.get_logger() if name == "structlog" else logging.getLogger("x")
            log.exception("failed")

    [line] = lines_of(speak)
    assert "Traceback" in line["exception"]
    assert "ValueError" in line["exception"]
    assert "signature" not in json.dumps(line)


def test_text_that_is_no_unicode_is_logged_all_the_same(lines_of: Lines) -> None:
    [line] = lines_of(lambda: structlog.get_logger("x").info("path", path="/\udcff"))
    assert line["path"] == "/\udcff"
    assert line["timestamp"].endswith("Z")


def test_lines_below_the_level_are_left_out(lines_of: Lines) -> None:
    def speak() -> None:
        structlog.get_logger("x").info("no")
        logging.getLogger("x").info("no")
        structlog.get_logger("x").warning("yes")

    assert [line["event"] for line in lines_of(speak, level="warning")] == ["yes"]


def test_secrets_are_taken_out_of_every_text(lines_of: Lines) -> None:
    def speak() -> None:
        structlog.get_logger("x").info("key s3cret", list=["s3cret"], plain="as3cretb")
        logging.getLogger("aiohttp.server").error("Invalid header: X-API-Key: s3cret")

    lines = lines_of(speak, secrets=("s3cret", ""))
    assert len(lines) == 2
    assert "s3cret" not in json.dumps(lines)


@pytest.mark.parametrize(
    "text",
    [
        "https://cdn.example/v.mp4?stp=a&oh=SIGNATURE&oe=1",
        "url: /v/t50/x.mp4?oh=SIGNATURE (Caused by SSLError())",
        "'https://cdn.example/v.mp4?_nc_sid=x&oh=SIGNATURE'",
    ],
)
def test_the_query_of_a_url_is_taken_out(text: str) -> None:
    line = scrubber([])(json.dumps({"event": text}))
    assert "SIGNATURE" not in line
    assert "[scrubbed]" in json.loads(line)["event"]


@given(before=st.text(), after=st.text(), secret=st.text('abcdefgh"\\äß', min_size=8, max_size=30))
def test_a_secret_never_survives_the_scrubber(before: str, after: str, secret: str) -> None:
    line = scrubber([secret])(json.dumps({"event": before + secret + after}, ensure_ascii=False))
    assert secret not in json.loads(line)["event"]


def test_a_secret_that_comes_up_later_is_scrubbed_too() -> None:
    later: list[tuple[str, ...]] = [()]
    scrub = scrubber(["first"], lambda: later[0])
    assert scrub("first second") == "[secret] second"
    later[0] = ("second",)
    assert scrub("first second") == "[secret] [secret]"


@given(text=st.text())
def test_a_line_is_json_after_the_scrubber_too(text: str) -> None:
    assert "event" in json.loads(scrubber(["s3cret"])(json.dumps({"event": "?a=" + text})))


def test_a_collector_that_does_not_read_blocks_nobody() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as collector, os.fdopen(writer, "w") as stream:
        with logs_to(stream, level="info", style="json"):
            log = structlog.get_logger("x")
            for number in range(20_000):
                log.info("filler" * 10, number=number)
            # Reached only because no line above waited for the collector, who reads now.
            drain = threading.Thread(target=collector.read)
            while b"log lines dropped" not in (line := collector.readline()):
                pass
            drain.start()
        stream.close()
        drain.join()
    assert json.loads(line)["lines"] > 0


def test_a_stream_of_ascii_gets_every_character(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w", encoding="ascii") as stream, logs_to(stream, level="info", style="json"):
        for text in ("plain", "caf\u00e9 \U0001f600 \ud800", "plain again"):
            structlog.get_logger().info(text)
    lines = path.read_text(encoding="ascii").splitlines()
    assert len(lines) == 3
    assert "caf" in lines[1]


class Flaky(io.StringIO):
    """A stream that fails at its first writes, by one error after the other."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.failures = list(errors)

    def write(self, text: str) -> int:
        if self.failures:
            raise self.failures.pop(0)
        return super().write(text)


def test_no_failure_of_the_stream_ends_logging() -> None:
    stream = Flaky(OSError(28, "No space left"), ValueError("closed"), RuntimeError("anything"))
    with logs_to(stream, level="info", style="json"):
        while not stream.getvalue():
            structlog.get_logger().info("again")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert "log lines dropped" in stream.getvalue()
