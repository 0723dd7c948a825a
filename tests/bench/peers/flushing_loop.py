"""The loop of :mod:`tests.bench.peers.loop`, with each file and folder flushed to the disk."""

from functools import partial

from scrapper.library.disk import flush
from tests.bench.peers.loop import download, in_threads


def main() -> None:
    in_threads(partial(download, stored=flush))


if __name__ == "__main__":
    main()
