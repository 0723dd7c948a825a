"""Which posts are published, and what is left of downloads that are abandoned."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from scrapper.library.post import MediaItem, Post
from scrapper.library.publishing import Publisher
from scrapper.library.stored import load


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
