"""Which posts are published, and what is left of abandoned or interrupted downloads."""

import errno
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from scrapper.errors import SettingsError
from scrapper.library.post import MediaItem, Post
from scrapper.library.publishing import Publisher
from scrapper.library.store import Library
from scrapper.library.stored import MANIFEST, load


def publish(publisher: Publisher, post: Post) -> None:
    folder = publisher.stage(post.shortcode)
    for file in post.files:
        (folder / file.filename).write_bytes(b"text")
    publisher.publish(folder, post)


def test_post_that_cannot_be_rendered_replaces_nothing(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path, abandoned_after=0.0)
    item = MediaItem("image", "abcde.jpg", "", 4, 1, 1)
    post = Post("abcde", "text", "owner", None, "url", (item,))
    publish(publisher, post)
    broken = replace(post, media=(replace(item, bit_rate=2**64),))
    with pytest.raises(TypeError):
        publish(publisher, broken)
    stored = load(tmp_path / "abcde")
    assert stored
    assert stored.post == post


def test_post_whose_age_cannot_be_read_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = Publisher(tmp_path, abandoned_after=0.0)
    publish(
        publisher,
        Post("abcde", "", None, None, "url", (MediaItem("image", "abcde.jpg", "", 4, 1, 1),)),
    )
    lstat = Path.lstat

    def fail(path: Path) -> os.stat_result:
        if path.name == MANIFEST:
            raise OSError(errno.EIO, "Input/output error")
        return lstat(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "lstat", fail)
        assert not publisher.remove("abcde", before=math.inf)
    assert load(tmp_path / "abcde")


def test_abandoned_downloads_leave_nothing_behind(tmp_path: Path) -> None:
    for _ in range(30):
        publisher = Publisher(tmp_path, abandoned_after=0.0)
        publisher.incoming.mkdir(exist_ok=True)
        started = threading.Event()

        def download(publisher: Publisher = publisher, started: threading.Event = started) -> None:
            try:
                while True:
                    folder = publisher.stage("a-post")
                    started.set()
                    for number in range(20):
                        (folder / str(number)).write_bytes(b"")
            except FileNotFoundError:
                pass

        threads = [threading.Thread(target=download) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
        publisher.abandon()
        for thread in threads:
            thread.join()
        assert list(publisher.incoming.iterdir()) == []


@pytest.mark.parametrize("abandoned_after", [0.0, 60.0])
def test_one_stuck_leftover_does_not_protect_the_others(
    tmp_path: Path, abandoned_after: float
) -> None:
    publisher = Publisher(tmp_path, abandoned_after=abandoned_after)
    publisher.incoming.mkdir()
    for name in ("aaaaa.1", "abcde.2.replaced", "zzzzz.3"):
        (publisher.incoming / name).mkdir()
    # The post cannot be restored over a link.
    (tmp_path / "abcde").symlink_to("nowhere")
    with capture_logs() as logs:
        publisher.clear_leftovers(time.time() + 3600)
    assert [path.name for path in publisher.incoming.iterdir()] == ["abcde.2.replaced"]
    assert [(line["event"], line["leftover"]) for line in logs] == [
        ("leftover not cleared", "abcde.2.replaced")
    ]


@pytest.mark.parametrize(
    "make",
    [Path.touch, os.mkfifo, lambda path: path.symlink_to("nowhere")],
    ids=["file", "FIFO", "link"],
)
async def test_an_incoming_that_is_no_folder_is_refused(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / ".incoming")
    with pytest.raises(SettingsError, match="not a folder"):
        await Library(tmp_path).open()
