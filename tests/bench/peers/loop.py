"""The minimum for a download: the service's requests, in sequence, over persistent connections.

``python -m tests.bench.peers.loop FOLDER SHORTCODE...`` prints the CPU seconds and the wall-clock
seconds that the downloads took, not counting startup.
"""

import json
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import requests

from tests.instagram.server import QUERY

_SITE = "https://www.instagram.com"


def main() -> None:
    measured(_download)


def measured(download: Callable[[Path, list[str]], None]) -> None:
    """Run *download* with the folder and the shortcodes from the command line.

    Print the CPU seconds and the wall-clock seconds that *download* took.
    """
    cpu, wall = time.process_time(), time.perf_counter()
    download(Path(sys.argv[1]), sys.argv[2:])
    print(time.process_time() - cpu, time.perf_counter() - wall)


def _download(folder: Path, shortcodes: list[str]) -> None:
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


if __name__ == "__main__":
    main()
