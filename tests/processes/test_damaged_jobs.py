"""How a service starts if its files are damaged."""

from pathlib import Path

import pytest

from tests.instagram import StandIn
from tests.process import Service, wait_for
from tests.unit.jobs.test_job_file import DAMAGE, URLS, fill


@pytest.mark.parametrize("damage", ["random bytes", "a folder", "an orphan row"])
def test_a_service_starts_without_damaged_jobs(
    instagram: StandIn, media_root: Path, damage: str
) -> None:
    with Service(media_root, instagram.environment) as service:
        assert service.scrape(URLS[0]).status_code == 200
        service.terminate()
        service.wait()
    path = media_root / ".state" / "jobs.sqlite3"
    fill(path)
    DAMAGE[damage](path)
    with Service(media_root, instagram.environment) as service:
        assert service.get("/posts/reel-one").status_code == 200
        job = service.post("/jobs", {"urls": URLS[:1]}).json()
        wait_for(lambda: service.get(f"/jobs/{job['id']}").json()["state"] == "done")
        wait_for(lambda: service.logged("jobs unreadable: file set aside") == 1)


def test_a_service_that_cannot_start_never_listens(
    media_root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    media_root.mkdir()
    (media_root / ".incoming").symlink_to("/dev/null")
    service = Service(media_root)
    service.start(PORT="0")
    assert service.wait() != 0
    assert service.logged("listening") == 0
    assert capfd.readouterr().err
