"""Serves the page and the API on port 5633, with a stand-in for Instagram, until Ctrl-C.

``make demo`` runs this. The demo has posts of every kind, and jobs whose posts are done, failed,
running and waiting. The commands of docs/recipes.md work with it. With ``--check``, the demo
listens on any free port, and exits once all these posts and jobs exist.
"""

import argparse
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.instagram import StandIn
from tests.process import Service, wait_for

_PORT = 5633
_SECRET = "whsec_aW5zdGFncmFtLXNjcmFwcGVyIGRlbW8h"
_DAY = str(24 * 60 * 60)
_SETTINGS = {
    # The post that takes an hour must not reach its deadline.
    "SCRAPE_TIMEOUT_SECONDS": _DAY,
    "JOB_PATIENCE_SECONDS": _DAY,
    # How long the post that hits a rate limit delays other jobs.
    "INSTAGRAM_COOLDOWN_SECONDS": "20",
    "INSTAGRAM_MAX_QUERIES": "0",
    "WEBHOOK_HOSTS": "localhost, 127.0.0.0/8, ::1",
    "WEBHOOK_SECRET": _SECRET,
}
_STORED = (
    "reel/nocaption-demo",
    "reel/mute-demo",
    "p/webp-demo",
    "p/twenty-demo",
    "p/oneslidegone-demo",
    "reel/emoji-demo",
    "reel/linked-demo",
    "p/photo-demo",
    "someone/p/carousel-demo",
    "reel/reel-demo",
)
_KEPT = "photo-demo"
_FAILING = {
    "p/gone-demo": "post_not_found",
    "reel/gated-demo": "login_required",
    "reel/cut-demo": "media_incomplete",
    "someone": "unsupported_link",
}
_RUNNING, _WAITING = "reel/hour-demo", "reel/wait-demo"
_WELCOME = f"""
The page:        http://localhost:{_PORT}/
Stored:          curl localhost:{_PORT}/posts/reel-demo
A new post:      https://www.instagram.com/reel/reel-ANYTHING/, also with /p/photo-... and
                 /p/carousel-...; these links exist only in this demo
The recipes:     the commands in docs/recipes.md work unchanged
Webhooks:        to localhost, signed with {_SECRET}

The demo does not contact Instagram, and keeps no files. To stop it, press Ctrl-C."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit once all posts and jobs exist")
    only_check = parser.parse_args().check
    port = {} if only_check else {"PORT": str(_PORT)}
    if port and _is_taken():
        print(f"Another program is listening on port {_PORT}: stop it first.", file=sys.stderr)
        return 2
    # By default, a program that a shell runs in the background ignores SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            StandIn() as instagram,
            Service(Path(folder), {**instagram.environment, **_SETTINGS, **port}) as service,
        ):
            filled = _fill(service)
            if not filled or only_check:
                return 0 if filled else 1
            print(_WELCOME, flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        print()
    return 0


def _is_taken() -> bool:
    try:
        with socket.create_server(("127.0.0.1", _PORT)):
            return False
    except OSError:
        return True


def _fill(service: Service) -> bool:
    """Create posts in every state, and print them; return whether each has the expected state."""
    # Download the posts one by one, so that their order is always the same.
    jobs = [_job(service, [path], state="done") for path in _STORED]
    jobs.append(_job(service, list(_FAILING), state="failed"))
    jobs.append(_job(service, [_RUNNING], state="running"))
    jobs.append(_job(service, [_WAITING], state="waiting"))
    kept = service.put(f"/posts/{_KEPT}/keep").status_code == 204
    posts = [post for job in jobs for post in _posts(service, job)]
    for post in posts:
        print(f"{post['state']:8} {post['url']}  {post['code'] or ''}".rstrip())
    failed = [post["code"] for post in posts if post["state"] == "failed"]
    return kept and failed == list(_FAILING.values())


def _job(service: Service, paths: Sequence[str], *, state: str) -> str:
    """Submit the posts at *paths*, wait until all are in *state*, and return the job's path."""
    urls = [f"https://www.instagram.com/{path}/" for path in paths]
    job = service.post("/jobs", {"urls": urls}).headers["Location"]
    wait_for(lambda: {post["state"] for post in _posts(service, job)} == {state})
    return job


def _posts(service: Service, job: str) -> list[dict[str, Any]]:
    posts: list[dict[str, Any]] = service.get(job).json()["posts"]
    return posts


if __name__ == "__main__":
    sys.exit(main())
