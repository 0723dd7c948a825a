"""The media folder: one process at a time, and the same folder all the time."""

import subprocess
import sys
from pathlib import Path

import pytest

from scrapper.errors import MediaFolderGone, SettingsError
from scrapper.library.root import MediaRoot
from tests.conftest import StartService, both_modes, stored_files
from tests.instagram import StandIn
from tests.process import Service
from tests.redis_server import RedisServer

URL = "https://www.instagram.com/reel/{}/"


def test_a_second_process_ends_with_2_and_says_why(
    instagram: StandIn, media_root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Service(media_root, instagram.environment) as first:
        (media_root / ".incoming" / "download").mkdir()
        second = Service(media_root)
        second._start(PORT="0")
        assert second.wait() == 2
        assert "another process uses" in capfd.readouterr().err
        assert (media_root / ".incoming" / "download").exists()
        assert first.scrape(URL.format("reel-first")).status_code == 200
        first.kill()
    # The lock ends with the process, whatever ended it.
    with Service(media_root) as third:
        assert third.get("/health").status_code == 200


def test_replicas_share_a_folder_and_others_do_not(
    redis_server: RedisServer, media_root: Path
) -> None:
    environment = {"REDIS_URL": redis_server.url}
    with Service(media_root, environment), Service(media_root, environment):
        alone = Service(media_root)
        alone._start(PORT="0")
        assert alone.wait() == 2


def test_fetch_does_not_touch_the_folder_of_a_running_service(media_root: Path) -> None:
    with Service(media_root):
        command = [sys.executable, "-m", "scrapper", "fetch", URL.format("reel-x")]
        done = subprocess.run([*command, "--into", media_root], check=False, capture_output=True)
    assert done.returncode == 2
    assert b"another process uses" in done.stderr


def test_withdrawing_leaves_no_files_behind(tmp_path: Path) -> None:
    one, other = (MediaRoot(tmp_path, shared=True) for _ in range(2))
    one.open()
    other.open()
    assert (one.found_free, other.found_free) == (True, False)
    one.withdraw()
    assert (tmp_path / ".state").exists()
    other.withdraw()
    assert list(tmp_path.iterdir()) == []


def test_another_folder_in_its_place_is_not_the_folder(tmp_path: Path) -> None:
    root = MediaRoot(tmp_path / "media")
    root.open()
    root.check()
    root.path.rename(tmp_path / "unplugged")
    for _ in range(2):
        with pytest.raises(MediaFolderGone):
            root.check()
        root.path.mkdir(exist_ok=True)
    with pytest.raises(SettingsError):
        MediaRoot(tmp_path / "unplugged").open()


def unplug(root: Path, disk: Path, below: str) -> None:
    root.rename(disk)
    if below != "nothing":
        root.mkdir()


def plug_in(root: Path, disk: Path, below: str) -> None:
    if below != "nothing":
        root.rmdir()
    disk.rename(root)


@both_modes
@pytest.mark.parametrize("below", ["nothing", "an empty folder"])
async def test_a_service_whose_folder_is_gone_says_so_and_writes_nothing(
    instagram: StandIn, start_service: StartService, media_root: Path, tmp_path: Path, below: str
) -> None:
    client = await start_service()
    body = {"url": URL.format("reel-before")}
    assert (await client.post("/scrape", json=body)).status == 200
    unplug(media_root, tmp_path / "unplugged", below)
    instagram.reset_counters()
    ready = await client.get("/ready")
    assert (ready.status, (await ready.json())["media_folder"]) == (503, False)
    assert (await client.get("/metrics")).status == 200
    job = {"urls": [URL.format("reel-after")]}
    for response in (
        await client.post("/scrape", json={"url": URL.format("reel-after")}),
        await client.get("/posts"),
        await client.get("/posts/reel-never"),
        await client.delete("/posts/reel-before"),
        await client.get("/media/reel-never/reel-never.mp4"),
    ):
        assert (response.status, (await response.json())["code"]) == (503, "media_folder_gone")
    response = await client.post("/jobs", json=job)
    # With Redis the folder is the workers' business.
    if response.status != 202:
        assert (response.status, (await response.json())["code"]) == (503, "media_folder_gone")
    assert instagram.requests() == 0
    # It fails where anything was written.
    plug_in(media_root, tmp_path / "unplugged", below)
    assert (await client.get("/posts/reel-before")).status == 200
    assert "reel-before/post.json" in stored_files(media_root)
