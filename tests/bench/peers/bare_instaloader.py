"""The minimum for a download with Instaloader, over persistent connections.

``python -m tests.bench.peers.bare_instaloader FOLDER SHORTCODE...`` prints the CPU seconds and the
wall-clock seconds that the downloads took, not counting startup.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from instaloader import Post
from instaloader.instaloadercontext import InstaloaderContext
from requests.adapters import HTTPAdapter

from tests.bench.peers.loop import measured


class _PersistentAdapter(HTTPAdapter):
    def close(self) -> None:
        """Keep the connections open."""


class _Context(InstaloaderContext):
    def __init__(self) -> None:
        self._adapter = _PersistentAdapter()
        super().__init__(sleep=False, quiet=True, iphone_support=False)

    def get_anonymous_session(self) -> requests.Session:
        return self._with_adapter(super().get_anonymous_session())

    @contextmanager
    def _graphql_session(self, *args: Any, **kwargs: Any) -> Iterator[requests.Session]:
        with super()._graphql_session(*args, **kwargs) as session:
            yield self._with_adapter(session)

    def _with_adapter(self, session: requests.Session) -> requests.Session:
        session.mount("https://", self._adapter)
        return session


def main() -> None:
    measured(_download)


def _download(folder: Path, shortcodes: list[str]) -> None:
    context = _Context()
    for shortcode in shortcodes:
        post = Post.from_shortcode(context, shortcode)
        for suffix, url in (("mp4", post.video_url), ("jpg", post.url)):
            with (
                context.get_raw(str(url)) as response,
                (folder / f"{shortcode}.{suffix}").open("wb") as file,
            ):
                shutil.copyfileobj(response.raw, file, 256 * 1024)


if __name__ == "__main__":
    main()
