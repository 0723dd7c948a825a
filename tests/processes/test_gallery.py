"""A client that knows only ``/openapi.json`` can show and change a large library."""

import io
import json
import re
import threading
import zipfile
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.bench.table import multiply
from tests.instagram import StandIn
from tests.process import PATIENCE_SECONDS, Service, wait_for

POSTS = 5000
KEY = "s3cret"


class Api:
    """Calls the operations in a service's OpenAPI description by their IDs."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.headers["X-API-Key"] = key
        self._description = requests.get(f"{url}/openapi.json", timeout=60).json()
        self.limited = 0

    def _find(self, operation_id: str) -> tuple[str, str, Any]:
        [found] = [
            (path, method, operation)
            for path, item in self._description["paths"].items()
            for method, operation in item.items()
            if operation["operationId"] == operation_id
        ]
        return found

    def call(
        self, operation_id: str, body: Any = None, *, stream: bool = False, **values: Any
    ) -> requests.Response:
        """Call an operation with *values* as parameters; check that the status is documented."""
        path, method, operation = self._find(operation_id)
        places = {it["name"]: it["in"] for it in operation.get("parameters", ())}
        for name in [name for name in values if places[name] == "path"]:
            path = path.replace(f"{{{name}}}", values.pop(name))
        assert all(places[name] == "query" for name in values)
        response = self._session.request(
            method,
            self._url + path,
            params=values,
            json=body,
            stream=stream,
            timeout=300,
        )
        self.limited += response.status_code == 429
        assert str(response.status_code) in operation["responses"]
        return response

    def get_pictures(self, paths: list[str]) -> None:
        """Get the pictures at *paths* as a browser would."""
        with closing(
            HTTPConnection(urlsplit(self._url).netloc, timeout=PATIENCE_SECONDS)
        ) as connection:
            for path in paths:
                connection.request("GET", path, headers={"X-API-Key": KEY})
                response = connection.getresponse()
                assert response.status == 200
                assert len(response.read()) <= 25_000
                assert "immutable" in response.headers["Cache-Control"]

    def listing(self, operation_id: str, key: str, **values: Any) -> Iterator[Any]:
        """Yield all entries of a listing, page by page."""
        while True:
            page = self.call(operation_id, **values).json()
            yield from page[key]
            if page["next_cursor"] is None:
                return
            values["cursor"] = page["next_cursor"]


class Browser:
    """A page that follows the event stream to keep its jobs and posts up to date."""

    def __init__(self, url: str, key: str) -> None:
        self.api = Api(url, key)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.posts: set[str] = set()
        self.resets = 0
        self._stream = self.api.call("followEvents", stream=True)
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def close(self) -> None:
        self._stream.close()

    def _read(self) -> None:
        text = ""
        try:
            for chunk in self._stream.iter_content(None):
                *blocks, text = (text + chunk.decode()).split("\r\n\r\n")
                for block in blocks:
                    lines = [line for line in block.split("\r\n") if not line.startswith(":")]
                    fields = dict(line.split(": ", 1) for line in lines)
                    if fields:
                        self._show(fields["event"], json.loads(fields["data"]))
        # The stream was closed.
        except (requests.RequestException, AttributeError):
            return

    def _show(self, name: str, data: Any) -> None:
        match name:
            case "reset":
                self.jobs = {it["id"]: it for it in self.api.listing("listJobs", "jobs")}
                self.resets += 1
            case "job" if data.get("forgotten"):
                self.jobs.pop(data["id"], None)
            case "job":
                known = self.jobs.get(data["id"], {"posts": [{}] * len(data["posts"])})["posts"]
                changed = {post.pop("index"): post for post in data["posts"]}
                posts = [changed.get(index, post) for index, post in enumerate(known)]
                self.jobs[data["id"]] = {**data, "posts": posts}
            case "post" if data["change"] == "removed":
                self.posts.discard(data["shortcode"])
            case "post":
                self.posts.add(data["shortcode"])


def test_a_large_library_works_within_the_default_limits(
    instagram: StandIn, tmp_path: Path
) -> None:
    environment = {
        **instagram.environment,
        "API_KEY": KEY,
        "RATE_LIMIT_MAX_REQUESTS": "30",
        "INSTAGRAM_MAX_QUERIES": "0",
    }
    with Service(tmp_path, environment) as service:
        service.headers["X-API-Key"] = KEY
        url = "https://www.instagram.com/reel/reel-seed/"
        assert service.scrape(url).status_code == 200
    multiply(tmp_path, POSTS)
    with Service(tmp_path, environment) as service:
        use(service.url)


def use(url: str) -> None:
    browsers = [Browser(url, KEY) for _ in range(2)]
    one, other = browsers
    wait_for(lambda: all(browser.resets for browser in browsers))
    urls = [f"https://www.instagram.com/reel/reel-new-{number}/" for number in range(3)]
    job = one.api.call("createJob", {"urls": urls}).json()
    for browser in browsers:
        wait_for(lambda: browser.jobs.get(job["id"], {}).get("state") == "done")  # noqa: B023
        assert browser.jobs[job["id"]] == one.api.call("getJob", id=job["id"]).json()
        wait_for(lambda: len(browser.posts) == len(urls))  # noqa: B023

    posts = list(one.api.listing("listPosts", "posts"))
    assert len({post["shortcode"] for post in posts}) == POSTS + len(urls)
    one.api.get_pictures([post["thumbnail_url"] for post in posts])
    for post in posts[:40]:
        assert one.api.call("download", shortcode=post["shortcode"]).status_code == 200

    names = [post["shortcode"] for post in posts]
    outcomes = one.api.call("bulkChange", {"shortcodes": names[:200], "action": "keep"}).json()
    assert {it["status"] for it in outcomes["posts"]} == {204}
    assert len(list(one.api.listing("listPosts", "posts", kept="true", limit=100))) == 200
    outcomes = one.api.call("bulkChange", {"shortcodes": names[-100:], "action": "delete"}).json()
    assert {it["code"] for it in outcomes["posts"]} == {None}
    assert one.api.call("getStorage").json()["posts"] == len(posts) - 100
    fifty = ",".join(names[:50])
    archive = one.api.call("downloadByUrl", shortcodes=fifty, archive="zip").content
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert len({re.sub("/.*", "", name) for name in opened.namelist()}) == 50
    wait_for(lambda: not other.posts.intersection(names[-100:]))
    assert one.api.call("cancelJob", id=job["id"], forget="1").status_code == 204
    wait_for(lambda: job["id"] not in other.jobs)
    assert [browser.api.limited for browser in browsers] == [0, 0]
    for browser in browsers:
        browser.close()
