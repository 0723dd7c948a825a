"""The service on a disk that is full or read-only."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import StartService, stored_files
from tests.instagram import StandIn
from tests.process import Service

URL = "https://www.instagram.com/reel/{}/"
FULL = "The disk is full: nothing more can be stored for now"
READ_ONLY = "The disk is read-only: nothing can be stored for now"


@contextmanager
def small_tmpfs(folder: Path) -> Iterator[None]:
    command = ["mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs permission to mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with small_tmpfs(folder):
        yield folder


def remount(disk: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Use up every byte of the disk."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return filler


def test_a_full_disk_is_reported_until_there_is_room(instagram: StandIn, small_disk: Path) -> None:
    environment = {**instagram.environment, "MIN_FREE_DISK_MB": "0"}
    with Service(small_disk, environment) as service:
        assert service.scrape(URL.format("reel-before")).status_code == 200
        response = service.scrape(URL.format("big-one"))
        assert (response.status_code, response.json()["error"]) == (507, FULL)
        filler = fill(small_disk)
        for _ in range(3):
            response = service.scrape(URL.format("reel-during"))
            assert (response.status_code, response.json()["error"]) == (507, FULL)
        assert os.listdir(small_disk / ".incoming") == []
        assert not (small_disk / "reel-during").exists()
        assert service.scrape(URL.format("reel-before")).json()["cached"]
        assert service.get("/health").text == "OK"
        job = service.post("/jobs", {"urls": [URL.format("reel-job")]})
        assert job.status_code in (202, 507)
        filler.unlink()
        assert service.scrape(URL.format("reel-during")).status_code == 200
        assert service.post("/jobs", {"urls": [URL.format("reel-job")]}).status_code == 202
        service.terminate()
        assert service.wait() == 0
    assert not [line for line in service.log if line["level"] == "error"]


def test_min_free_disk_mb_is_left_free(instagram: StandIn, small_disk: Path) -> None:
    environment = {**instagram.environment, "MIN_FREE_DISK_MB": "7"}
    with Service(small_disk, environment) as service:
        assert service.scrape(URL.format("reel-small")).status_code == 200
        response = service.scrape(URL.format("slow-two"))
        assert (response.status_code, response.json()["error"]) == (507, FULL)
        (small_disk / "filler").write_bytes(bytes(2_000_000))
        instagram.reset_counters()
        assert service.scrape(URL.format("reel-other")).status_code == 507
        assert instagram.requests() == 0
        assert service.get("/ready").json()["disk_space"] is False
        (small_disk / "filler").unlink()
        assert service.scrape(URL.format("reel-other")).status_code == 200


def test_posts_are_served_after_the_disk_becomes_read_only(
    instagram: StandIn, small_disk: Path
) -> None:
    environment = {**instagram.environment, "MIN_FREE_DISK_MB": "0"}
    # A disk with files open for writing cannot be remounted read-only, so the state folder, which
    # has such files, gets its own disk.
    (small_disk / ".state").mkdir()
    with small_tmpfs(small_disk / ".state"), Service(small_disk, environment) as service:
        assert service.scrape(URL.format("reel-before")).status_code == 200
        remount(small_disk, "ro")
        try:
            response = service.scrape(URL.format("reel-during"))
            assert (response.status_code, response.json()["error"]) == (507, READ_ONLY)
            assert service.scrape(URL.format("reel-before")).json()["cached"]
            assert service.get("/media/reel-before/reel-before.mp4").status_code == 200
            assert service.get("/ready").json()["media_folder"] is False
        finally:
            remount(small_disk, "rw")
        assert service.scrape(URL.format("reel-during")).status_code == 200


async def test_a_file_over_max_media_mb_is_not_downloaded(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service(MAX_MEDIA_MB="1")
    async with client.post("/scrape", json={"url": URL.format("big-one")}) as response:
        assert response.status == 422
        error = await response.json()
        assert (error["code"], error["smallest_size"]) == ("media_too_large", 20_000_000)
        assert error["error"].endswith("the smallest is 20 MB")
    assert stored_files(media_root) == set()
    async with client.post("/scrape", json={"url": URL.format("reel-one")}) as response:
        assert response.status == 200


async def test_a_download_of_unknown_length_stops_at_the_limit(
    instagram: StandIn, start_service: StartService, media_root: Path
) -> None:
    client = await start_service(MAX_MEDIA_MB="1")
    async with client.post("/scrape", json={"url": URL.format("bigchunked-one")}) as response:
        assert response.status == 422
    assert stored_files(media_root) == set()
