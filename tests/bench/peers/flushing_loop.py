"""The loop of :mod:`tests.bench.peers.loop`, with three flushes a post: two files and the folder.

The service makes five: its manifest and the folder above have to be on the disk, too.
"""

from functools import partial

from scrapper.library.disk import flush
from tests.bench.peers.loop import download, in_threads


def main() -> None:
    in_threads(partial(download, on_stored=flush))


if __name__ == "__main__":
    main()
