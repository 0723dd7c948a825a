"""A media folder whose disk is unplugged while the service runs."""

from pathlib import Path

import pytest

from tests.conftest import StartService, both_modes, stored_files
from tests.instagram import StandIn

URL = "https://www.instagram.com/reel/{}/"


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
async def test_a_missing_media_folder_is_reported_and_not_recreated(
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
    # With Redis, only the workers use the folder.
    if response.status != 202:
        assert (response.status, (await response.json())["code"]) == (503, "media_folder_gone")
    assert instagram.requests() == 0
    # plug_in() fails if anything was written in the meantime.
    plug_in(media_root, tmp_path / "unplugged", below)
    assert (await client.get("/posts/reel-before")).status == 200
    assert "reel-before/post.json" in stored_files(media_root)
