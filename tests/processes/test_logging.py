"""The log of a real process: JSON from the first line, without secrets."""

from pathlib import Path
from urllib.parse import quote, unquote

import pytest
import requests

from tests.process import Service

SESSION = "12345678%3AaBcDeF-gHiJ_k%3A12"


@pytest.mark.parametrize("key", [",", '"', "e", "info", "request", "{", "\\"])
def test_a_short_key_corrupts_no_line(tmp_path: Path, key: str) -> None:
    with Service(tmp_path, {"API_KEY": key, "LOG_LEVEL": "debug"}) as service:
        service.headers["X-API-Key"] = key
        assert service.get("/posts?limit=1,2").status_code == 400
        service.get(f"/posts/{quote(key, safe='')}")
        service.terminate()
        assert service.wait() == 0
    lines = [line for line in service.log if line["event"] == "request"]
    assert [line["path"] for line in lines if line["path"] == "/posts"]
    for line in service.log:
        assert line["level"] in ("debug", "info", "warning")
        assert "T" in line["timestamp"]


def test_no_line_contains_a_session_id_in_any_encoding(tmp_path: Path) -> None:
    cookies = tmp_path / "cookies.txt"
    cookies.write_text(f".instagram.com\tTRUE\t/\tTRUE\t0\tsessionid\t{SESSION}\n")
    cookies.chmod(0o600)
    environment = {"INSTAGRAM_COOKIES_FILE": str(cookies)}
    with Service(tmp_path / "media", environment) as service:
        for form in (SESSION, unquote(SESSION), quote(SESSION, safe="")):
            requests.get(f"{service.url}/posts/{form}", timeout=60)
        service.terminate()
        service.wait()
    assert "/posts/[secret]" in "".join(service.raw_log)
    assert "gHiJ" not in "".join(service.raw_log)


def test_lines_before_the_service_listens_are_json(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import logging, warnings\n"
        "import structlog\n"
        "warnings.warn('careful')\n"
        "logging.getLogger('mine').warning('from logging')\n"
        "structlog.get_logger('mine').warning('from structlog')\n"
        "from middlewares.body_size import body_size\n"
        "def factory():\n"
        "    return body_size(1)\n"
    )
    state = tmp_path / "media" / ".state"
    state.mkdir(parents=True)
    (state / "login.json").write_text("{")
    (state / "login.json").chmod(0o600)
    environment = {"EXTRA_MIDDLEWARES": "mine:factory"}
    with Service(tmp_path / "media", environment, python_path=tmp_path) as service:
        service.terminate()
        service.wait()
    events = [line["event"] for line in service.log]
    assert {"from logging", "from structlog", "stored login unreadable"} <= set(events)
    assert any("careful" in event for event in events)


def test_invalid_log_settings_are_reported(tmp_path: Path) -> None:
    service = Service(tmp_path, {"LOG_FORMAT": "xml", "LOG_LEVEL": "loud"})
    service.start(PORT="0")
    assert service.wait() == 2
    assert service.raw_log == []
