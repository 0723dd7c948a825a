"""Only one process uses a media folder, unless processes share Redis."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.instagram import StandIn
from tests.process import Service
from tests.redis_server import RedisServer

URL = "https://www.instagram.com/reel/{}/"


def test_a_second_process_exits_with_2_and_a_reason(
    instagram: StandIn, media_root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Service(media_root, instagram.environment) as first:
        (media_root / ".incoming" / "download").mkdir()
        second = Service(media_root)
        second.start(PORT="0")
        assert second.wait() == 2
        assert "another process is using" in capfd.readouterr().err
        assert (media_root / ".incoming" / "download").exists()
        assert first.scrape(URL.format("reel-first")).status_code == 200
        first.kill()
    # The lock is released when the process ends, even if it is killed.
    with Service(media_root) as third:
        assert third.get("/health").status_code == 200


def test_only_replicas_share_a_folder(redis_server: RedisServer, media_root: Path) -> None:
    environment = {"REDIS_URL": redis_server.url}
    with Service(media_root, environment), Service(media_root, environment):
        alone = Service(media_root)
        alone.start(PORT="0")
        assert alone.wait() == 2


def test_fetch_refuses_the_folder_of_a_running_service(media_root: Path) -> None:
    with Service(media_root):
        command = [sys.executable, "-m", "scrapper", "fetch", URL.format("reel-x")]
        done = subprocess.run([*command, "--into", media_root], check=False, capture_output=True)
    assert done.returncode == 2
    assert b"another process is using" in done.stderr
