"""The least work for a download: the same requests in sequence, over persistent connections.

``python -m tests.bench.peers.loop THREADS FOLDER SHORTCODE...``: each thread takes its share of the
posts. Prints the CPU seconds and the seconds that it took, not counting the start.
"""

import json
import re
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import requests

from tests.instagram.server import QUERY

_SITE = "https://www.instagram.com"


def main() -> None:
    in_threads(download)


def in_threads(download: Callable[[Path, list[str]], None]) -> None:
    """Run *download* in as many threads as the command line says.

    Each call gets the folder and its thread's share of the posts. Prints the CPU seconds and
    the seconds that all of it took, not counting the start.
    """
    cpu, wall = time.process_time(), time.perf_counter()
    threads, folder, shortcodes = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    with ThreadPoolExecutor(threads) as executor:
        shares = [shortcodes[start::threads] for start in range(threads)]
        list(executor.map(partial(download, folder), shares))
    print(time.process_time() - cpu, time.perf_counter() - wall)


def download(
    folder: Path, shortcodes: list[str], *, on_stored: Callable[[Path], None] = lambda _: None
) -> None:
    """Download the posts; call *on_stored* with each file, and with the folder after each post."""
    with requests.Session() as session:
        page = session.get(f"{_SITE}/").text
        match = re.search(r'"LSD",\[\],\{"token":"([^"]+)"', page)
        assert match
        csrf = session.cookies.get_dict()["csrftoken"]
        for shortcode in shortcodes:
            answer = session.post(
                f"{_SITE}/api/graphql",
                data={
                    "variables": json.dumps({"shortcode": shortcode}),
                    "doc_id": QUERY,
                    "lsd": match[1],
                },
                headers={"x-csrftoken": csrf},
            ).json()
            [media] = answer["data"]["xdt_api__v1__media__shortcode__web_info"]["items"]
            urls = {
                "mp4": media["video_versions"][0]["url"],
                "jpg": media["image_versions2"]["candidates"][0]["url"],
            }
            for suffix, url in urls.items():
                path = folder / f"{shortcode}.{suffix}"
                with session.get(url, stream=True) as response, path.open("wb") as file:
                    shutil.copyfileobj(response.raw, file, 256 * 1024)
                on_stored(path)
            on_stored(folder)


if __name__ == "__main__":
    main()
