"""State files that vanish or are replaced while the service runs."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.instagram import StandIn
from tests.process import Service, wait_for
from tests.processes.test_plugins import NOTING
from tests.unit.test_state_files import dangling, fifo, folder

URL = "https://www.instagram.com/reel/{}/"
FILES = ("jobs.sqlite3", "plugins.sqlite3", "posts.sqlite3")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", [Path.unlink, fifo, folder, dangling])
def test_nothing_is_lost_with_a_state_file(
    instagram: StandIn, media_root: Path, tmp_path: Path, name: str, change: object
) -> None:
    (tmp_path / "noting.py").write_text(NOTING)
    noted = tmp_path / "noted"
    noted.touch()
    environment = {**instagram.environment, "PLUGINS": "noting", "NOTED": str(noted)}
    jobs = []
    with Service(media_root, environment, python_path=tmp_path) as service:
        service.scrape(URL.format("reel-before"))
        jobs.append(service.post("/jobs", {"urls": [URL.format("reel-job-before")]}).json()["id"])
        change(media_root / ".state" / name)  # type: ignore[operator]
        service.scrape(URL.format("reel-after"))
        for number in range(3):
            done = service.post("/jobs", {"urls": [URL.format(f"reel-job-{number}")]})
            assert done.status_code == 202
            jobs.append(done.json()["id"])
        assert len(service.get("/posts?kept=false").json()["posts"]) >= 2
        assert service.get("/ready").status_code == 200
        service.terminate()
        assert service.wait() == 0
    with Service(media_root, environment, python_path=tmp_path) as service:
        assert {service.get(f"/jobs/{job}").status_code for job in jobs} == {200}
        wait_for(lambda: noted_posts(noted) >= {"reel-before", "reel-after", "reel-job-2"})


def noted_posts(noted: Path) -> set[str]:
    lines = [line.split() for line in noted.read_text().splitlines()]
    return {words[1] for words in lines if words[0] == "stored"}


def test_a_locked_catalogue_is_busy_and_listings_go_on(
    instagram: StandIn, media_root: Path
) -> None:
    with Service(media_root, instagram.environment) as service:
        service.scrape(URL.format("reel-one"))
        path = media_root / ".state" / "posts.sqlite3"
        wait_for(lambda: service.get("/posts?q=caption").status_code == 200)
        with closing(sqlite3.connect(path, isolation_level=None)) as program:
            program.execute("BEGIN EXCLUSIVE")
            refused = service.get("/posts?q=caption")
            assert (refused.status_code, refused.json()["code"]) == (503, "busy")
            assert refused.headers["Retry-After"]
            assert len(service.get("/posts").json()["posts"]) == 1
        assert service.get("/posts?q=caption").status_code == 200


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_later_release_ends_the_start(
    media_root: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "noting.py").write_text(NOTING)
    environment = {"PLUGINS": "noting"}
    with Service(media_root, environment, python_path=tmp_path) as service:
        service.terminate()
        service.wait()
    path = media_root / ".state" / name
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 7")
    service = Service(media_root, environment, python_path=tmp_path)
    service._start(PORT="0")
    assert service.wait() == 2
    complaint = capfd.readouterr().err
    assert str(path) in complaint
    assert "Traceback" not in complaint
