"""State files that vanish or are replaced while the service runs."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.instagram import StandIn
from tests.process import Service, wait_for
from tests.tampering import NOTING
from tests.unit.instagram.test_login import COOKIES, write
from tests.unit.test_state_files import dangling, device, fifo, folder

URL = "https://www.instagram.com/reel/{}/"
FILES = ("jobs.sqlite3", "plugins.sqlite3", "posts.sqlite3")
STATE = (
    *FILES,
    *(f"{name}{suffix}" for name in FILES for suffix in ("-journal", "-wal", "-shm")),
    "lock",
    "login.json",
    "login.lock",
    "pace.json",
    "clock.json",
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", [Path.unlink, fifo, folder, dangling])
def test_nothing_is_lost_when_a_state_file_vanishes(
    instagram: StandIn, media_root: Path, tmp_path: Path, name: str, change: Callable[[Path], None]
) -> None:
    (tmp_path / "noting.py").write_text(NOTING)
    noted = tmp_path / "noted"
    noted.touch()
    environment = {**instagram.environment, "PLUGINS": "noting", "NOTED": str(noted)}
    jobs = []
    with Service(media_root, environment, python_path=tmp_path) as service:
        service.scrape(URL.format("reel-before"))
        jobs.append(service.post("/jobs", {"urls": [URL.format("reel-job-before")]}).json()["id"])
        # The service creates the catalogue in the background.
        wait_for((media_root / ".state" / name).exists)
        change(media_root / ".state" / name)
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


def test_jobs_survive_a_lost_file_and_a_kill(instagram: StandIn, media_root: Path) -> None:
    path = media_root / ".state" / "jobs.sqlite3"
    with Service(media_root, instagram.environment) as service:
        job = service.post("/jobs", {"urls": [URL.format("reel-one")]}).json()["id"]
        wait_for(lambda: service.get(f"/jobs/{job}").json()["state"] == "done")
        path.unlink()
        # The service notices the loss even though nothing uses the file.
        wait_for(path.exists)
        service.kill()
    with Service(media_root, instagram.environment) as service:
        assert service.get(f"/jobs/{job}").json()["state"] == "done"


def noted_posts(noted: Path) -> set[str]:
    lines = [line.split() for line in noted.read_text().splitlines()]
    return {words[1] for words in lines if words[0] == "stored"}


def test_listings_work_while_the_catalogue_is_locked(instagram: StandIn, media_root: Path) -> None:
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
def test_a_file_from_a_later_release_prevents_startup(
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
    service.start(PORT="0")
    assert service.wait() == 2
    complaint = capfd.readouterr().err
    assert str(path) in complaint
    assert "Traceback" not in complaint


@pytest.mark.parametrize("put", [fifo, folder, dangling, device])
def test_irregular_files_prevent_neither_startup_nor_shutdown(
    instagram: StandIn, media_root: Path, tmp_path: Path, put: Callable[[Path], None]
) -> None:
    (tmp_path / "noting.py").write_text(NOTING)
    (tmp_path / "noted").touch()
    keys, cookies = tmp_path / "keys", tmp_path / "cookies"
    write(keys, b"alice:a-key-of-alice\n")
    write(cookies, COOKIES.encode())
    environment = {
        **instagram.environment,
        "API_KEYS_FILE": str(keys),
        "INSTAGRAM_COOKIES_FILE": str(cookies),
        "PLUGINS": "noting",
        "NOTED": str(tmp_path / "noted"),
    }
    state = media_root / ".state"
    state.mkdir(parents=True)
    for name in STATE:
        put(state / name)
    with Service(media_root, environment, python_path=tmp_path) as service:
        service.headers["X-API-Key"] = "a-key-of-alice"
        _use(service)
        for path in (*(state / name for name in STATE if name != "lock"), keys, cookies):
            put(path)
        _use(service)
        keys.rename(tmp_path / "aside")
        write(keys, b"bob:b-key-of-bob\n")
        service.headers["X-API-Key"] = "b-key-of-bob"
        wait_for(lambda: service.get("/posts").status_code == 200)
        # The service checks login.json once a second, even without requests.
        login = state / "login.json"
        wait_for(lambda: login.is_file() and not login.is_symlink())
        service.terminate()
        assert service.wait() == 0
    environment["INSTAGRAM_COOKIES_FILE"] = ""
    with Service(media_root, environment, python_path=tmp_path) as service:
        service.headers["X-API-Key"] = "b-key-of-bob"
        assert service.get("/login").json()["state"] == "active"


def _use(service: Service) -> None:
    assert service.get("/ready").status_code == 200
    assert service.get("/login").json()["state"] == "active"
    assert service.scrape(URL.format("reel-one")).status_code == 200
    job = service.post("/jobs", {"urls": [URL.format("reel-one")]})
    assert job.status_code == 202
    wait_for(lambda: service.get(f"/jobs/{job.json()['id']}").json()["state"] == "done")
    assert len(service.get("/posts?kept=false").json()["posts"]) == 1


@pytest.mark.parametrize(
    "name", ["API_KEY_FILE", "API_KEYS_FILE", "INSTAGRAM_COOKIES_FILE", "INSTAGRAM_SESSION_FILE"]
)
def test_a_setting_that_names_a_fifo_prevents_startup(
    media_root: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    fifo(tmp_path / "fifo")
    environment = {name: str(tmp_path / "fifo")}
    if "SESSION" in name:
        environment["INSTAGRAM_USERNAME"] = "me"
    service = Service(media_root, environment)
    service.start(PORT="0")
    assert service.wait() == 2
    complaint = capfd.readouterr().err
    assert f"{name}: {tmp_path / 'fifo'} cannot be read: Not a regular file" in complaint
    assert "Traceback" not in complaint
