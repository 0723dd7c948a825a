"""The service's SQLite files: whatever happens to a file, no data is lost."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from scrapper.errors import Busy, DiskReadOnly, MediaFolderGone, SettingsError
from scrapper.jobs.model import Job, new_job
from scrapper.jobs.stores.memory import Record
from scrapper.jobs.stores.sqlite import Contents, JobFile
from scrapper.jobs.webhooks import Delivery
from scrapper.library.catalogue import Catalogue, Search
from scrapper.library.sqlite_file import NewerSchema, SQLiteFile
from scrapper.plugins.ledger import NO_VERSION, Ledger

pytestmark = pytest.mark.blocks

OLD_FILES = Path(__file__).parent / "state_files"
URLS = ["https://www.instagram.com/reel/reel-one/", "https://www.instagram.com/p/other/"]


def jobs(path: Path) -> JobFile:
    store = JobFile(path)
    store.open()
    return store


def ledger(path: Path) -> Ledger:
    opened = Ledger(path)
    opened.open()
    return opened


def catalogue(path: Path) -> Catalogue:
    opened = Catalogue(path, path.parent / "media")
    opened.refuse_newer()
    # The first use opens the file, but raises Busy because the file is not up to date.
    with suppress(Busy):
        opened.newest(1, None, Search())
    return opened


OPENERS: dict[str, Callable[[Path], JobFile | Ledger | Catalogue]] = {
    "jobs": jobs,
    "plugins": ledger,
    "posts": catalogue,
}


@pytest.fixture(params=OPENERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def query(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(statement).fetchall()


def old_file(folder: Path, name: str) -> Path:
    for path in OLD_FILES.glob(f"{name}.sqlite3*"):
        shutil.copy(path, folder)
    return folder / f"{name}.sqlite3"


def test_files_with_the_first_schema_are_migrated(tmp_path: Path, name: str) -> None:
    path = old_file(tmp_path, name)
    OPENERS[name](path).close()
    assert query(path, "PRAGMA user_version") == [({"plugins": 3, "posts": 3}.get(name, 2),)]
    tables = query(path, "PRAGMA table_list")
    assert {row[1] for row in tables if row[5]} >= {"posts"}
    assert not list(tmp_path.glob("*.damaged-*"))
    assert len(query(path, "SELECT * FROM posts")) == 2


def test_migrated_jobs_and_deliveries_are_complete(tmp_path: Path) -> None:
    file = JobFile(old_file(tmp_path, "jobs"))
    contents = file.open()
    (job,) = contents.jobs
    assert (job.client, job.webhook) == ("192.0.2.1", "http://localhost/hook")
    assert [post.state for post in job.posts] == ["queued", "failed"]
    delivery = Delivery("msg_one", "http://localhost/hook", b"{}")
    assert (contents.deliveries, contents.unannounced) == ({delivery: 0.0}, frozenset())
    file.write(Record(removed=[job.id]))
    file.close()
    assert query(tmp_path / "jobs.sqlite3", "SELECT * FROM posts") == []


def test_jobs_with_the_earliest_columns_are_migrated(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(
            "CREATE TABLE jobs (id TEXT PRIMARY KEY, created_at REAL NOT NULL);"
            "CREATE TABLE posts (job TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE,"
            " position INTEGER NOT NULL, url TEXT NOT NULL, shortcode TEXT, state TEXT NOT NULL,"
            " bytes_done INTEGER NOT NULL, bytes_total INTEGER, status INTEGER, error TEXT,"
            " retry_after INTEGER, PRIMARY KEY (job, position));"
            "INSERT INTO jobs VALUES ('one', 1);"
            "INSERT INTO posts VALUES ('one', 0, 'u', NULL, 'queued', 0, NULL, NULL, NULL, NULL);"
        )
    store = JobFile(path)
    (job,) = store.open().jobs
    assert (job.id, job.keep, len(job.posts)) == ("one", False, 1)
    store.close()


def test_a_migrated_ledger_is_complete(tmp_path: Path) -> None:
    known = ledger(old_file(tmp_path, "plugins"))
    assert known.unknown(["one", "two", "three"]) == {"three"}
    assert known.posts("one") == {"aaaaa": 1, "bbbbb": 2}
    assert known.generation("two")[1] == 1
    known.close()


def test_a_migrated_catalogue_still_finds_words(tmp_path: Path) -> None:
    path = old_file(tmp_path, "posts")
    catalogue(path).close()
    words = (
        "SELECT shortcode FROM posts WHERE id IN (SELECT rowid FROM words WHERE words MATCH 'sun')"
    )
    assert len(query(path, words)) == 2


def test_a_migrated_catalogue_reads_every_post_again(tmp_path: Path) -> None:
    path = old_file(tmp_path, "posts")
    catalogue(path).close()
    assert query(path, "SELECT * FROM state") == []
    assert {row[0] for row in query(path, "SELECT inode FROM posts")} == {-1}


def test_a_file_from_a_later_release_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.sqlite3"
    OPENERS[name](path).close()
    query(path, "PRAGMA user_version = 7")
    content = path.read_bytes()
    with pytest.raises(NewerSchema, match=str(path)):
        OPENERS[name](path)
    assert path.read_bytes() == content


def fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def folder(path: Path) -> None:
    if not path.is_dir():
        path.unlink(missing_ok=True)
        path.mkdir()
    (path / "file").touch()


def dangling(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("nowhere/at-all")


def device(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def another(path: Path) -> None:
    (path.parent / "other").write_bytes(b"\x13\x37" * 5000)
    (path.parent / "other").replace(path)


def zeros(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(8192))


CHANGES: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "a FIFO": fifo,
    "a folder": folder,
    "a dangling link": dangling,
    "a device": device,
    "another file": another,
    "emptied": lambda path: os.truncate(path, 0),
    "overwritten": lambda path: path.write_bytes(b"\x13\x37" * 5000),
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
}


@pytest.fixture(params=CHANGES)
def change(request: pytest.FixtureRequest) -> Callable[[Path], object]:
    return CHANGES[request.param]


def new(job: Job) -> Record:
    return Record(job, dict(enumerate(job.posts)), is_new=True)


class Engine:
    """Jobs in memory and in their file."""

    def __init__(self, path: Path) -> None:
        self.jobs: list[Job] = []
        self.deliveries: dict[Delivery, float] = {}
        self.store = JobFile(path)
        found = self.store.open(lambda: Contents(self.jobs, deliveries=self.deliveries))
        assert found == Contents()

    def add(self) -> Job:
        job = new_job(URLS, max_url_length=512)
        try:
            self.store.write(new(job))
        except Busy:
            self.store.write(new(job))
        self.jobs.append(job)
        return job


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path / "jobs.sqlite3")
    yield engine
    # Python 3.13 warns about databases that are not closed.
    engine.store.close()


def reopened(path: Path) -> tuple[set[str], dict[Delivery, float]]:
    file = JobFile(path)
    contents = file.open()
    file.close()
    return {job.id for job in contents.jobs}, dict(contents.deliveries)


def test_jobs_survive_any_change_to_their_file(
    engine: Engine, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    before = engine.add()
    engine.deliveries[Delivery("msg", "http://localhost/", b"{}", 3)] = 7.0
    change(tmp_path / "jobs.sqlite3")
    after = engine.add()
    engine.store.write(Record(before, {0: before.posts[0]}))
    # A killed process would leave the file in this state.
    assert reopened(tmp_path / "jobs.sqlite3") == ({before.id, after.id}, engine.deliveries)
    engine.store.close()


@pytest.mark.parametrize("how", sorted(CHANGES.keys() - {"truncated"}))
def test_jobs_are_written_again_on_close(engine: Engine, tmp_path: Path, how: str) -> None:
    job = engine.add()
    CHANGES[how](tmp_path / "jobs.sqlite3")
    engine.store.close()
    assert reopened(tmp_path / "jobs.sqlite3")[0] == {job.id}


@pytest.mark.parametrize("how", ["an older copy", "zeros in the middle"])
@pytest.mark.parametrize("is_checked", [True, False])
def test_jobs_survive_writes_of_other_programs(
    engine: Engine, tmp_path: Path, how: str, is_checked: bool
) -> None:
    path = tmp_path / "jobs.sqlite3"
    first, older = engine.add(), path.read_bytes()
    second = engine.add()
    if how == "an older copy":
        path.write_bytes(older)
    else:
        zeros(path)
    if is_checked:
        engine.store.verify()
        # A killed process would leave the file in this state.
        assert reopened(path)[0] == {first.id, second.id}
    engine.store.close()
    assert reopened(path)[0] == {first.id, second.id}


def test_an_older_copy_of_the_jobs_is_set_aside(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    first = engine.add()
    shutil.copy(path, tmp_path / "copy")
    second = engine.add()
    (tmp_path / "copy").replace(path)
    third = engine.add()
    assert reopened(path)[0] == {first.id, second.id, third.id}


def test_no_post_is_skipped_after_the_ledger_is_lost(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    path = tmp_path / "plugins.sqlite3"
    known = ledger(path)
    known.begin(["one"], {})
    known.record("one", ("aaaaa", 1, "done"))
    generation = known.generation("one")
    change(path)
    try:
        assert known.generation("one") != generation
    except Busy:
        assert known.generation("one") != generation
    known.close()
    again = ledger(path)
    assert again.unknown(["one"]) == {"one"}
    again.begin(["one"], {"aaaaa": 1})
    assert again.entries("one", ["aaaaa"]) == {"aaaaa": (NO_VERSION, "begun")}
    again.close()


def test_a_crash_while_replacing_the_ledger_skips_no_post(tmp_path: Path) -> None:
    path = tmp_path / "plugins.sqlite3"
    known = ledger(path)
    known.begin(["one"], {})
    known.close()
    path.rename(tmp_path / "plugins.sqlite3.damaged-1")
    (tmp_path / "plugins.sqlite3.new").touch()
    again = ledger(path)
    again.begin(["one"], {"aaaaa": 1})
    assert again.entries("one", ["aaaaa"]) == {"aaaaa": (NO_VERSION, "begun")}
    again.close()


def test_two_processes_agree_on_a_recreated_ledger(tmp_path: Path) -> None:
    path = tmp_path / "plugins.sqlite3"
    one, other = ledger(path), ledger(path)
    path.unlink()
    one.record("mine", ("aaaaa", 1, "done"))
    other.record("mine", ("bbbbb", 1, "done"))
    assert one.posts("mine") == other.posts("mine") == {"aaaaa": 1, "bbbbb": 1}
    one.close()
    other.close()


def test_many_processes_that_start_together_share_one_file(tmp_path: Path) -> None:
    path = tmp_path / "plugins.sqlite3"
    path.write_bytes(b"\x13\x37" * 5000)
    ledgers = [Ledger(path) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(Ledger.open, ledgers))
    for number, opened in enumerate(ledgers):
        opened.record("mine", (f"post-{number}", 1, "done"))
    assert len(ledgers[0].posts("mine")) == 8
    assert len(list(tmp_path.glob("*.damaged-*"))) == 1
    for opened in ledgers:
        opened.close()


def test_a_file_opened_concurrently_is_migrated_once(tmp_path: Path) -> None:
    path = old_file(tmp_path, "plugins")
    ledgers = [Ledger(path) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(Ledger.open, ledgers))
    for opened in ledgers:
        assert opened.posts("one") == {"aaaaa": 1, "bbbbb": 2}
        opened.close()
    assert not list(tmp_path.glob("*.damaged-*"))


@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm"])
@pytest.mark.parametrize("put", [fifo, folder, dangling, device])
def test_special_files_beside_a_database_are_harmless(
    tmp_path: Path, name: str, suffix: str, put: Callable[[Path], object]
) -> None:
    path = tmp_path / f"{name}.sqlite3"
    opened = OPENERS[name](path)
    side_file = path.with_name(path.name + suffix)
    put(side_file)
    use(opened)
    opened.close()
    put(side_file)
    OPENERS[name](path).close()
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


def use(opened: JobFile | Ledger | Catalogue) -> None:
    match opened:
        case JobFile():
            opened.write(new(new_job(URLS, max_url_length=512)))
        case Ledger():
            opened.record("one", ("aaaaa", 1, "done"))
        case Catalogue():
            opened.recheck()


@pytest.fixture
def locked(tmp_path: Path, name: str) -> Iterator[JobFile | Ledger | Catalogue]:
    path = tmp_path / f"{name}.sqlite3"
    opened = OPENERS[name](path)
    with closing(sqlite3.connect(path, isolation_level=None)) as program:
        program.execute("BEGIN EXCLUSIVE")
        yield opened
    use(opened)
    opened.close()


def test_a_file_locked_by_another_program_is_busy(locked: JobFile | Ledger | Catalogue) -> None:
    with pytest.raises(Busy) as refusal:
        use(locked)
    assert refusal.value.retry_after


def test_a_file_removed_during_a_transaction_is_busy(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.sqlite3"
    file = SQLiteFile(path, "test", version=1, schema="CREATE TABLE a (a INT) STRICT", shared=False)
    with pytest.raises(Busy), file.using() as database:  # noqa: PT012
        path.unlink()
        database.execute("INSERT INTO a VALUES (1)")
    with file.changing() as database:
        database.execute("INSERT INTO a VALUES (2)")
    assert query(path, "SELECT a FROM a") == [(2,)]
    file.close()


def test_no_file_is_created_if_the_folder_is_gone(tmp_path: Path) -> None:
    def check() -> None:
        if not (tmp_path / "state").exists():
            raise MediaFolderGone

    (tmp_path / "state").mkdir()
    store = JobFile(tmp_path / "state/jobs.sqlite3", check=check)
    store.open()
    shutil.rmtree(tmp_path / "state")
    with pytest.raises(MediaFolderGone):
        store.write(new(new_job(URLS, max_url_length=512)))
    store.close()
    assert not (tmp_path / "state").exists()


def test_a_removed_state_folder_is_recreated(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    one = Engine(tmp_path / "state/jobs.sqlite3")
    job = one.add()
    shutil.rmtree(tmp_path / "state")
    one.store.close()
    assert reopened(tmp_path / "state/jobs.sqlite3")[0] == {job.id}


def test_only_the_latest_damaged_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    for _ in range(9):
        path.write_bytes(b"\x13\x37" * 5000)
        jobs(path).close()
    assert 1 < len(list(tmp_path.glob("jobs.sqlite3.damaged-*"))) < 9


def test_a_new_file_is_private_and_a_loss_is_logged(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    with capture_logs() as logs:
        opened = jobs(path)
    assert logs == []
    assert path.stat().st_mode & 0o777 == 0o600
    path.unlink()
    with capture_logs() as logs:
        use(opened)
    assert [line["event"] for line in logs] == ["jobs removed: file recreated"]
    opened.close()


def test_a_database_behind_a_symlink_is_used(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    one = jobs(tmp_path / "elsewhere/jobs.sqlite3")
    use(one)
    one.close()
    (tmp_path / "jobs.sqlite3").symlink_to("elsewhere/jobs.sqlite3")
    assert len(reopened(tmp_path / "jobs.sqlite3")[0]) == 1


def test_an_error_at_startup_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise DiskReadOnly

    monkeypatch.setattr("scrapper.library.sqlite_file.delete", refuse)
    with pytest.raises(SettingsError, match=r"jobs.sqlite3: The disk is read-only"):
        jobs(tmp_path / "jobs.sqlite3")


def test_a_replaced_catalogue_is_busy_until_the_next_sync(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    opened = catalogue(tmp_path / "posts.sqlite3")
    opened.sync()
    assert opened.newest(1, None, Search()) == []
    (tmp_path / "posts.sqlite3").unlink()
    with pytest.raises(Busy):
        opened.newest(1, None, Search())
    opened.sync()
    assert opened.newest(1, None, Search()) == []
    opened.close()
