"""The job file, intact and damaged."""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scrapper.jobs.model import Job, new_job
from scrapper.jobs.stores.memory import Record
from scrapper.jobs.stores.sqlite import JobFile
from scrapper.library.sqlite_file import NewerSchema

URLS = ["https://www.instagram.com/reel/reel-one/", "https://example.com/"]


def fill(path: Path) -> Job:
    file, job = JobFile(path), new_job(URLS, max_url_length=512, client="192.0.2.1")
    file.open()
    file.write(Record(job, dict(enumerate(job.posts)), is_new=True))
    file.close()
    return job


def execute(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as database:
        for statement in statements:
            database.execute(statement)
    database.close()


def count_jobs(path: Path) -> int:
    file = JobFile(path)
    jobs = file.open().jobs
    file.close()
    return len(jobs)


def zero_header(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(bytes(200) + content[200:])


def replace_with_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").touch()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "random bytes": lambda path: path.write_bytes(b"\x13\x37" * 5000),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "zeroed header": zero_header,
    "a folder": replace_with_folder,
    "another schema": lambda path: execute(
        path, "DROP TABLE posts", "CREATE TABLE posts (something TEXT)"
    ),
    "an orphan row": lambda path: execute(
        path, "PRAGMA foreign_keys = OFF", "UPDATE posts SET job = 'unknown'"
    ),
    "an unknown state": lambda path: execute(path, "UPDATE posts SET state = 'lost'"),
    "an infinite time": lambda path: execute(path, "UPDATE jobs SET created_at = 9e999"),
}


@pytest.mark.blocks
def test_a_stored_job_is_read_unchanged(tmp_path: Path) -> None:
    job = fill(tmp_path / "jobs")
    file = JobFile(tmp_path / "jobs")
    (read,) = file.open().jobs
    file.close()
    assert (read.id, read.client, read.created_at) == (job.id, job.client, job.created_at)
    assert read.posts == job.posts


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_job_file_is_set_aside(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "jobs.sqlite3"
    fill(path)
    DAMAGE[damage](path)
    assert count_jobs(path) == 0
    assert list(tmp_path.glob("jobs.sqlite3.damaged-*"))
    fill(path)
    assert count_jobs(path) == 1


@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(position=st.integers(0, 30_000), content=st.binary(min_size=1, max_size=600))
def test_the_file_opens_whatever_the_damage(tmp_path: Path, position: int, content: bytes) -> None:
    path = tmp_path / "jobs.sqlite3"
    path.unlink(missing_ok=True)
    fill(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:position] + content + whole[position + len(content) :])
    # The damage may change the four bytes of the schema version.
    with suppress(NewerSchema):
        assert count_jobs(path) in (0, 1)
