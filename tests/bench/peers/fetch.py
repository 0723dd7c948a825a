"""The service's own fetch without its server: as the workers do it, in one thread.

``python -m tests.bench.peers.fetch 1 FOLDER SHORTCODE...``; prints the CPU seconds that it
took, the start not counted.
"""

import sys
import time
from pathlib import Path

from scrapper.instagram import Instagram
from scrapper.library import Library
from scrapper.post import Progress

_SECONDS_A_POST = 60


def main() -> None:
    started = time.process_time()
    library = Library(Path(sys.argv[2]))
    instagram = Instagram(max_queries=0, window=1, max_bytes=2**30, keep_free=0)
    for shortcode in sys.argv[3:]:
        folder = library.stage(shortcode)
        deadline = time.monotonic() + _SECONDS_A_POST
        url = f"https://www.instagram.com/reel/{shortcode}/"
        library.publish(folder, instagram.fetch(shortcode, url, folder, deadline, Progress()))
    print(time.process_time() - started)


if __name__ == "__main__":
    main()
