"""``make demo``: the service's main job, without Instagram.

Starts the stand-in for Instagram and the service, scrapes a reel, a photo and a carousel, prints
the responses and lists the files.
"""

import json
import sys
import tempfile
from pathlib import Path

from tests.instagram import StandIn
from tests.process import Service

_URLS = (
    "https://www.instagram.com/reel/reel-demo/",
    "https://www.instagram.com/p/photo-demo/",
    "https://www.instagram.com/someone/p/carousel-demo/?img_index=1",
)


def main() -> int:
    failures = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        StandIn() as instagram,
        Service(Path(folder), instagram.environment) as service,
    ):
        for url in _URLS:
            print(f'POST /scrape {{"url": "{url}"}}')
            response = service.scrape(url)
            failures += response.status_code != 200
            print(response.status_code, json.dumps(response.json(), indent=2), "\n")
        print("Files under MEDIA_ROOT:")
        for path in sorted(Path(folder).glob("[!.]*/*")):
            print(f"{path.stat().st_size:>8}  {path.relative_to(folder)}")
        service.terminate()
        code = service.wait()
        print(f"\nThe service ended with code {code}.")
    return 1 if failures or code else 0


if __name__ == "__main__":
    sys.exit(main())
