"""Downloads that a process abandons when it exits."""

import threading
from pathlib import Path

from scrapper.library.publishing import Publisher


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
