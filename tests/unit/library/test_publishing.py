"""How a process that ends leaves the media folder."""

import threading
from pathlib import Path

from scrapper.library.publishing import Publisher


def test_abandoned_downloads_leave_nothing_however_busy_their_threads_are(tmp_path: Path) -> None:
    for _ in range(30):
        publisher = Publisher(tmp_path, abandoned_after=0.0)
        publisher.incoming.mkdir(exist_ok=True)
        begun = threading.Event()

        def download(publisher: Publisher = publisher, begun: threading.Event = begun) -> None:
            try:
                while True:
                    folder = publisher.stage("a-post")
                    begun.set()
                    for number in range(20):
                        (folder / str(number)).write_bytes(b"")
            except FileNotFoundError:
                pass

        threads = [threading.Thread(target=download) for _ in range(4)]
        for thread in threads:
            thread.start()
        begun.wait()
        publisher.abandon()
        for thread in threads:
            thread.join()
        assert list(publisher.incoming.iterdir()) == []
