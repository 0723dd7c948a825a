"""The operator's files: which of them are read, and when they are reloaded."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from scrapper.access.keys import ApiKeys
from scrapper.errors import SettingsError
from scrapper.instagram.login.cookies import SessionFileError, read_session_file
from scrapper.instagram.login.file import LoginFile
from scrapper.instagram.login.session import Login
from scrapper.library.additions import Additions, add
from scrapper.library.keeping import is_kept, keep
from scrapper.library.root import MediaRoot
from scrapper.library.state_file import StateFile
from scrapper.library.stored import MANIFEST, load
from scrapper.local_files.opening import open_file, read_file
from scrapper.local_files.watching import WatchedFile
from scrapper.settings import Settings, load_settings
from tests.unit.instagram.test_login import COOKIES, write
from tests.unit.test_state_files import device, fifo, folder

pytestmark = pytest.mark.blocks

KEYS = b"alice:a-key-of-alice\n"


def dangling_link(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("nowhere")


def too_large(path: Path) -> None:
    path.unlink(missing_ok=True)
    line = KEYS if "keys" in path.name else b"# a comment\n"
    write(path, line * (1_100_000 // len(line)))


SPECIAL = [fifo, folder, device, dangling_link]
PLACES = {
    "API_KEY_FILE": b"a-key",
    "API_KEYS_FILE": KEYS,
    "INSTAGRAM_COOKIES_FILE": COOKIES.encode(),
    "INSTAGRAM_SESSION_FILE": pickle.dumps({"sessionid": "one-of-8-or-more"}),
}


@pytest.mark.parametrize("put", [*SPECIAL, too_large])
@pytest.mark.parametrize("name", PLACES)
def test_a_setting_with_an_unusable_file_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    put: Callable[[Path], None],
) -> None:
    path = tmp_path / "keys-or-cookies"
    put(path)
    monkeypatch.setenv(name, str(path))
    monkeypatch.setenv("INSTAGRAM_USERNAME", "me" if "SESSION" in name else "")
    with pytest.raises(SettingsError) as refusal:
        use(load_settings())
    assert name in str(refusal.value)
    assert str(path) in str(refusal.value)


def use(settings: Settings) -> None:
    ApiKeys(settings)
    Login(
        cookies_file=settings.instagram_cookies_file,
        session_file=settings.instagram_session_file,
    )


@pytest.mark.parametrize("name", PLACES)
def test_links_to_files_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "..data").mkdir()
    write(tmp_path / "..data/file", PLACES[name])
    (tmp_path / "link").symlink_to("..data/file")
    monkeypatch.setenv(name, str(tmp_path / "link"))
    monkeypatch.setenv("INSTAGRAM_USERNAME", "me" if "SESSION" in name else "")
    use(load_settings())


@pytest.mark.parametrize("put", [*SPECIAL, too_large])
def test_keys_and_logins_survive_replaced_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[[Path], None]
) -> None:
    monkeypatch.setattr("scrapper.instagram.login.session._SECONDS_BETWEEN_RELOADS", 0)
    keys_path, cookies_path = tmp_path / "keys", tmp_path / "cookies"
    write(keys_path, KEYS)
    write(cookies_path, COOKIES.encode())
    keys, login = ApiKeys(load_settings(api_keys_file=keys_path)), Login(cookies_file=cookies_path)
    for path in (keys_path, cookies_path):
        put(path)
    keys.reload_if_changed()
    assert keys.secrets == ("a-key-of-alice",)
    assert login.session() is not None
    for path, content in ((keys_path, b"bob:b-key-of-bob\n"), (cookies_path, COOKIES.encode())):
        path.rename(tmp_path / f"{path.name}-aside")
        write(path, content)
    keys.reload_if_changed()
    assert keys.secrets == ("b-key-of-bob",)
    assert login.session() is not None


def damaged(path: Path) -> None:
    path.write_bytes(b"{")


@pytest.mark.parametrize("put", [Path.unlink, damaged, *SPECIAL])
def test_a_stored_login_survives_the_loss_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[[Path], None]
) -> None:
    monkeypatch.setattr("scrapper.instagram.login.session._SECONDS_BETWEEN_RELOADS", 0)
    path = tmp_path / "login.json"
    login = Login(stored=LoginFile(path))
    login.use({"sessionid": "one-of-8-or-more"}, "me")
    assert login.session()
    put(path)
    assert login.session()
    again = Login(stored=LoginFile(path)).session()
    assert again is not None
    assert again.cookies == {"sessionid": "one-of-8-or-more"}


@pytest.mark.parametrize("put", SPECIAL)
def test_a_state_file_replaces_anything(tmp_path: Path, put: Callable[[Path], None]) -> None:
    state = StateFile(tmp_path / "pace.json")
    put(tmp_path / "pace.json")
    assert state.read(dict) is None
    state.write({"a": 1})
    assert state.read(dict) == {"a": 1}


@pytest.mark.parametrize("put", SPECIAL)
def test_locks_that_are_not_files_are_set_aside(
    tmp_path: Path, put: Callable[[Path], None]
) -> None:
    (tmp_path / ".state").mkdir()
    for name in ("lock", "login.lock"):
        put(tmp_path / ".state" / name)
    root = MediaRoot(tmp_path)
    root.open()
    with pytest.raises(SettingsError, match="another process"):
        MediaRoot(tmp_path).open()
    Login(stored=LoginFile(tmp_path / ".state/login.json")).use(
        {"sessionid": "one-of-8-or-more"}, ""
    )
    root.close()


@pytest.mark.parametrize("put", SPECIAL)
def test_special_files_in_a_post_block_nothing(tmp_path: Path, put: Callable[[Path], None]) -> None:
    put(tmp_path / MANIFEST)
    put(tmp_path / "added.json")
    assert load(tmp_path) is None
    add(tmp_path, "plugin", Additions(), 1)


@pytest.mark.parametrize("put", SPECIAL)
def test_a_mark_of_any_file_type_keeps_a_post(tmp_path: Path, put: Callable[[Path], None]) -> None:
    put(tmp_path / "kept")
    assert keep(tmp_path)
    assert is_kept(tmp_path)


@pytest.mark.parametrize("place", [".state", ".incoming", ""])
@pytest.mark.parametrize("put", [fifo, dangling_link, Path.touch])
def test_anything_but_a_media_folder_is_refused(
    tmp_path: Path, place: str, put: Callable[[Path], None]
) -> None:
    path = tmp_path / "media" / place
    path.parent.mkdir(exist_ok=True)
    put(path)
    with pytest.raises(SettingsError, match=r"MEDIA_ROOT: .* is not a folder"):
        load_settings(media_root=tmp_path / "media")


def nested(depth: int) -> bytes:
    return b"\x80\x04" + b"}\x8c\x01a" * depth + b"\x8c\x01b" + b"s" * depth + b"."


PICKLES = {
    "nested dictionaries": nested(20_000),
    "nested tuples": b"\x80\x04)" + b"\x85" * 90_000 + b".",
    "a nested key": b"\x80\x04})" + b"\x85" * 90_000 + b"\x8c\x01bs.",
    "a key of many tuples": b"\x80\x04}" + b")" + b"2\x86" * 60 + b"\x8c\x01bs.",
    "a memo of gigabytes": b"\x80\x04}r\xff\xff\xff\x7f.",
    "a number of many digits": b"\x80\x04}L" + b"9" * 90_000 + b"L\n.",
    "longer than any session": pickle.dumps({"sessionid": "x" * 200_000}),
    "truncated": pickle.dumps({"sessionid": "one-of-8-or-more"})[:-5],
    "a set": pickle.dumps({"sessionid": {"one"}}),
    "bytes": pickle.dumps({"sessionid": b"one"}),
    "empty": b"\x80\x04.",
}


@pytest.mark.parametrize("name", PICKLES)
def test_hostile_pickles_are_refused_at_once(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "session", PICKLES[name])
    with pytest.raises(SessionFileError, match="session"):
        read_session_file(path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_session_files_in_all_pickle_protocols_are_read(tmp_path: Path, protocol: int) -> None:
    cookies = {f"name-{number}": "value" for number in range(90)} | {
        "sessionid": "one-of-8-or-more"
    }
    path = write(tmp_path / "session", pickle.dumps(cookies, protocol))
    assert read_session_file(path) == cookies


def test_a_file_of_the_maximum_size_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "file", b"x" * 100)
    assert read_file(path, 100) == b"x" * 100
    with pytest.raises(OSError, match=r"Larger than 99 bytes: '.*file'"):
        read_file(path, 99)


@pytest.mark.parametrize("put", SPECIAL)
def test_only_regular_files_are_opened(tmp_path: Path, put: Callable[[Path], None]) -> None:
    put(tmp_path / "file")
    with pytest.raises(OSError, match="file"):
        open_file(tmp_path / "file")


def rewritten_in_place(path: Path) -> None:
    status = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replaced(path: Path) -> None:
    write(path.with_name("new"), b"two")
    os.utime(path.with_name("new"), ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    path.with_name("new").replace(path)


def longer(path: Path) -> None:
    path.write_bytes(b"two and more")


@pytest.mark.parametrize("change", [rewritten_in_place, replaced, longer])
def test_every_change_to_a_watched_file_is_noticed(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    path = write(tmp_path / "file", b"one")
    reads: list[bytes] = []

    def read(path: Path) -> bytes:
        reads.append(path.read_bytes())
        return reads[-1]

    watched = WatchedFile(path, read)
    watched.content()
    change(path)
    assert watched.content() == path.read_bytes() != b"one"


def test_an_unchanged_file_is_read_once(tmp_path: Path) -> None:
    reads: list[Path] = []
    watched = WatchedFile(Path("/proc/self/exe"), reads.append)
    for _ in range(3):
        watched.content()
    assert len(reads) == 1
