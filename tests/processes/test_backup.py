"""Backups of a running service, restoring them, and the folder that commands use."""

import os
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from tests.instagram import StandIn
from tests.process import PATIENCE_SECONDS, Service, wait_for
from tests.service.handlers.test_login import cookies_txt

ROOT = Path(__file__).resolve().parents[2]
URL = "https://www.instagram.com/reel/{}/"
KEY = {"API_KEY": "a-key-that-is-long-enough"}


def run(
    *arguments: str, folder: Path | None = None, **more: object
) -> "subprocess.CompletedProcess[bytes]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if folder is not None:
        environment["MEDIA_ROOT"] = str(folder)
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-m", "scrapper", *arguments],
        env=environment,
        capture_output=True,
        check=False,
        timeout=PATIENCE_SECONDS,
        **more,
    )


def posts_of(service: Service) -> dict[str, object]:
    listed = service.get("/posts?limit=100").json()["posts"]
    # The paths differ, because the media folders differ.
    return {
        post["shortcode"]: {
            **post,
            "video": None,
            "thumbnail": None,
            "media": [{**item, "path": ""} for item in post["media"]],
        }
        for post in listed
    }


def store_legacy_post(media_root: Path) -> None:
    folder = media_root / "DLegacy0001"
    folder.mkdir(parents=True)
    (folder / "DLegacy0001.mp4").write_bytes(b"video")
    (folder / "DLegacy0001.txt").write_text("An old caption\n")


def test_backup_of_running_service_is_restored_elsewhere(
    instagram: StandIn, media_root: Path, tmp_path: Path
) -> None:
    store_legacy_post(media_root)
    environment = {**instagram.environment, **KEY, "INSTAGRAM_MAX_QUERIES": "0"}
    file, elsewhere = tmp_path / "backup.tar", tmp_path / "elsewhere"
    with Service(media_root, environment) as service:
        service.headers["X-API-Key"] = KEY["API_KEY"]
        service.scrape(URL.format("reel-kept"), keep=True)
        job = service.post("/jobs", {"urls": [URL.format("carousel-job"), "nonsense"]}).json()
        wait_for(lambda: service.get(f"/jobs/{job['id']}").json()["state"] == "done")
        done = run("login", "-", folder=media_root, input=cookies_txt("alive").encode())
        assert done.returncode == 0, done.stderr
        stopped = threading.Event()

        def refresh() -> None:
            while not stopped.is_set():
                service.scrape(URL.format("reel-busy"), refresh=True)

        service.scrape(URL.format("reel-busy"))
        refreshing = threading.Thread(target=refresh)
        refreshing.start()
        done = run("backup", str(file), folder=media_root)
        stopped.set()
        refreshing.join()
        job, posts = service.get(f"/jobs/{job['id']}").json(), posts_of(service)
        login = service.get("/login").json()
    assert done.returncode == 0, done.stderr
    assert b"Backed up: 4 posts; " in done.stderr
    assert b"login" in done.stderr.splitlines()[-1]
    assert file.stat().st_mode & 0o777 == 0o600
    elsewhere.mkdir()
    subprocess.run(["tar", "-xf", file, "-C", elsewhere], check=True)
    assert not (elsewhere / ".state/lock").exists()
    for shortcode in ("reel-kept", "carousel-job"):
        times = [(root / shortcode / "post.json").stat() for root in (media_root, elsewhere)]
        assert times[0].st_mtime_ns == times[1].st_mtime_ns
    with Service(elsewhere, environment) as service:
        service.headers["X-API-Key"] = KEY["API_KEY"]
        restored = posts_of(service)
        assert restored.keys() == posts.keys()
        # The post may have been refreshed after the backup.
        assert all(restored[name] == posts[name] for name in posts if name != "reel-busy")
        assert service.get(f"/jobs/{job['id']}").json() == job
        assert service.get("/login").json() == login
        found = service.get("/posts?q=old%20caption").json()["posts"]
        assert [post["shortcode"] for post in found] == ["DLegacy0001"]
        content = service.get("/download/reel-kept").content
        assert [content] == instagram.bytes_of("reel-kept")


def test_backup_of_the_state_goes_to_standard_output(media_root: Path, tmp_path: Path) -> None:
    store_legacy_post(media_root)
    with Service(media_root):
        (media_root / ".state/notes").symlink_to("/nowhere")
        os.mkfifo(media_root / ".state/pipe")
        done = run("backup", "-", "--no-posts", folder=media_root)
    assert done.returncode == 0, done.stderr
    (tmp_path / "backup.tar").write_bytes(done.stdout)
    with tarfile.open(tmp_path / "backup.tar") as archive:
        names = set(archive.getnames())
    assert {".state", ".state/jobs.sqlite3", ".state/legacy/DLegacy0001"} <= names
    assert all(name.startswith(".state") for name in names)
    assert not names & {".state/lock", ".state/clock.json", ".state/pipe", ".state/notes"}


def test_failed_backup_keeps_the_earlier_one(media_root: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    file.write_bytes(b"earlier")
    with Service(media_root) as service:
        service.kill()
    for path in (media_root / ".state").glob("jobs.sqlite3*"):
        path.unlink()
    (media_root / ".state/jobs.sqlite3").write_bytes(b"no database" * 1000)
    done = run("backup", str(file), folder=media_root)
    assert (done.returncode, file.read_bytes()) == (1, b"earlier")
    assert b"No backup was made" in done.stderr
    assert b"Traceback" not in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["backup.tar", "media"]


@pytest.mark.parametrize("target", ["/dev/full", "/dev", "/nowhere/backup.tar"])
def test_backup_that_cannot_be_written_prints_a_message(media_root: Path, target: str) -> None:
    with Service(media_root) as service:
        service.kill()
    done = run("backup", target, folder=media_root)
    assert done.returncode == 1
    assert b"No backup was made" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("plugins",), ("backup", "backup.tar")])
def test_unused_folder_is_an_error(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = run(*command, folder=tmp_path / "media", cwd=tmp_path)
    assert done.returncode == 2
    assert f"no service has used {tmp_path / 'media'} yet".encode() in done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(Path("/data").is_dir(), reason="/data exists on this machine")
def test_commands_use_the_folder_of_the_service_by_default(
    instagram: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = f"Media folder: {tmp_path / 'data/instaloader'}".encode()
    with Service(Path(), {"MEDIA_ROOT": ""}):
        for command in (("login", "-"), ("plugins",), ("backup", "backup.tar")):
            done = run(*command, input=cookies_txt("alive").encode())
            assert (done.returncode, done.stderr.splitlines()[0]) == (0, folder)
    assert (tmp_path / "data/instaloader/.state/login.json").exists()
