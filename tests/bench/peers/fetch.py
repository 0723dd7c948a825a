"""The service's fetch without the server, as one of its threads runs it.

``python -m tests.bench.peers.fetch FOLDER SHORTCODE...`` prints the CPU seconds and the wall-clock
seconds that the downloads took, not counting startup.
"""

import time
from pathlib import Path

from scrapper.instagram.client import Instagram
from scrapper.library.post import Fetch
from scrapper.library.store import Library
from scrapper.settings import load_settings
from tests.bench.peers.loop import measured

_SECONDS_PER_POST = 60


def main() -> None:
    measured(_fetch)


def _fetch(root: Path, shortcodes: list[str]) -> None:
    library = Library(root)
    settings = load_settings(media_root=root, instagram_max_queries=0, min_free_disk_mb=0)
    instagram = Instagram.from_settings(settings)
    for shortcode in shortcodes:
        folder = library.stage(shortcode)
        url = f"https://www.instagram.com/reel/{shortcode}/"
        fetch = Fetch(shortcode, url, time.monotonic() + _SECONDS_PER_POST)
        library.publish(folder, instagram.fetch(fetch, folder))


if __name__ == "__main__":
    main()
