"""``python -m scrapper doctor LINK``: diagnose the sources and this machine's setup."""

import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from requests.utils import get_environ_proxies

from scrapper import __version__
from scrapper.assembly import assemble_doctor
from scrapper.commands.output import EXIT_CODES, EXIT_USAGE, logs_if_enabled
from scrapper.errors import ScrapeError, response_to
from scrapper.ffmpeg import missing_programs
from scrapper.instagram.client import Instagram
from scrapper.instagram.search import Diagnosis
from scrapper.library.disk import free_bytes
from scrapper.links import ShareLink, names_story, read_link
from scrapper.settings import Settings, load_settings

__all__ = ["MEANINGS", "doctor"]

_MB = 1_000_000
_CLOCK_SECONDS = 120
MEANINGS: Mapping[str, tuple[str, str]] = {
    "ok": ("has the post", ""),
    "gone": ("the post does not exist", "Open the link in a private window: is the post there?"),
    "empty": ("no such post, or hidden", "Open the link in a private window: is the post there?"),
    "null": (
        "query retired, or no such post",
        "Update the service: Instagram may have new queries.",
    ),
    "retired": ("query retired", "Update the service: Instagram may have new queries."),
    "gated": ("the post needs a login", "Give the service a login: see docs/login.md."),
    "needs_login": (
        "refuses clients that are not logged in",
        "Wait, or use another network or a login.",
    ),
    "login_wall": ("a login form", "Wait a few hours, or use another network or a login."),
    "session_ended": ("the session ended", "Copy the cookies again: see docs/login.md."),
    "challenge": (
        "the account needs attention",
        "Log in to Instagram with a browser, follow its instructions, and copy the cookies again.",
    ),
    "stale": (
        "tokens or session out of date",
        "Try again. If it fails again, copy the cookies again.",
    ),
    "rate_limited": ("rate limit", "Wait an hour or more, and request fewer posts."),
    "soft_block": ("this address is blocked", "Wait a few hours, and request fewer posts."),
    "throttled": ("the page without its data", "Wait a few hours, and request fewer posts."),
    "wait": (
        "rate limit, or query retired",
        "Wait a few minutes. If it fails again, update the service.",
    ),
    "closed": ("unavailable for a while", ""),
    "pace": ("not queried: the service's own limit", "Wait: the service reached its own limit."),
    "changed": ("answer not understood", "Update the service. If that does not help, file a bug."),
    "failed": ("Instagram's own error", "Try again later."),
    "unreachable": ("no connection", "Check the network, the proxy, and REQUESTS_CA_BUNDLE."),
    "late": ("no answer in time", "Check the network and the proxy."),
    "not_needed": ("not queried: the post is not known to need a login", ""),
    "no_session": ("not queried: no session in use", ""),
}
"""For each outcome, its meaning and what to do about it."""


def doctor(link: str) -> int:
    """Query each source once for the post at *link*; print the answers and this machine's setup.

    The account is used only if the post is known to require a login. Return 0 if a source has the
    post, or else the exit code that ``fetch`` would return.

    Raises:
        SettingsError: a setting is invalid.
    """
    settings = load_settings()
    instagram = assemble_doctor(settings)
    with logs_if_enabled(settings, lambda: instagram.login.secrets):
        try:
            return _examine(settings, instagram, link)
        except ScrapeError as error:
            status, _, message = response_to(error)
            print(message, file=sys.stderr)
            return EXIT_USAGE if status == 400 else EXIT_CODES.get(status, 1)  # noqa: PLR2004
        finally:
            instagram.close()


def _examine(settings: Settings, instagram: Instagram, link: str) -> int:
    known = read_link(link, max_length=settings.max_url_length)
    deadline = time.monotonic() + settings.scrape_timeout_seconds
    if isinstance(known, ShareLink):
        known = instagram.open_share_link(known.path, deadline)
        print(f"The share link leads to the post {known}.")
    found = instagram.examine(known, deadline, story=names_story(link))
    print(f"instagram-scrapper {__version__}, {_environment()}\n")
    for line in (*_table(found), "", *_state(settings, instagram, found), "", *_advice(found)):
        print(line)
    if found.error is None:
        return 0
    return EXIT_CODES.get(response_to(found.error)[0], 1)


def _environment() -> str:
    parts = (f"Python {platform.python_version()}", f"{platform.system()} {platform.machine()}")
    return ", ".join((f"Instaloader {version('instaloader')}", *parts))


def _table(found: Diagnosis) -> Iterator[str]:
    rows = [("source", "status", "meaning", "had", "ms")]
    for finding in found.rows:
        meaning = MEANINGS.get(finding.outcome, (finding.outcome, ""))[0]
        waits = "" if finding.retry_after is None else f" (wait {finding.retry_after:.0f} s)"
        took = "" if finding.milliseconds is None else str(finding.milliseconds)
        rows.append(
            (finding.source, str(finding.status or ""), meaning + waits, finding.files, took)
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _state(settings: Settings, instagram: Instagram, found: Diagnosis) -> Iterator[str]:
    login, tokens = instagram.login.state, instagram.tokens_age
    yield f"tokens   {'none' if tokens is None else f'{tokens:.0f} s old'}"
    yield f"session  {login.state}{f', {login.username}' if login.username else ''}"
    documents = ", ".join(
        f"{name} {document.doc_id}" for name, document in instagram.documents.found().items()
    )
    yield f"queries  {documents or 'as built in'}"
    yield f"proxy    {_proxy()}"
    yield f"clock    {_clock(found.clock_difference)}"
    yield f"folder   {_folder(settings.media_root, settings.min_free_bytes)}"
    yield f"ffmpeg   {_ffmpeg()}"
    yield f"redis    {_redis(settings.redis_url.get_secret_value())}"


def _ffmpeg() -> str:
    """Return whether ffmpeg and the programs that limit it are installed."""
    missing = missing_programs()
    return f"{', '.join(missing)} not found" if missing else "found"


def _proxy() -> str:
    """Return the proxy for requests to Instagram, without its user name and password."""
    proxies = get_environ_proxies("https://www.instagram.com/")
    url = proxies.get("https") or proxies.get("all")
    if not url:
        return "none"
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        place = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
    except ValueError:
        return "not a URL"
    return f"{place}, with a password" if parts.password else place


def _clock(difference: float | None) -> str:
    if difference is None:
        return "unknown: no answer arrived"
    if abs(difference) < _CLOCK_SECONDS:
        return "correct"
    return (
        f"{abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'} Instagram's clock: "
        "fix it"
    )


def _folder(path: Path, enough: int) -> str:
    if not path.is_dir():
        return f"{path} does not exist"
    free = free_bytes(path) or 0
    room = f"{free // _MB} MB free" + ("" if free >= enough else ", too little")
    return f"{path}, {'' if os.access(path, os.W_OK | os.X_OK) else 'not '}writable, {room}"


def _redis(url: str) -> str:
    if not url:
        return "not used"
    # The Redis packages are optional, because a single process does not need them.
    from redis.exceptions import RedisError  # noqa: PLC0415

    from scrapper.replicas.client import blocking_client  # noqa: PLC0415

    client = blocking_client(url)
    try:
        return "answers" if client.ping() else "does not answer"
    except RedisError as error:
        return f"does not answer: {type(error).__name__}"
    finally:
        client.close()


def _advice(found: Diagnosis) -> Sequence[str]:
    if found.error is None:
        return ["A source has the post, so the service can download it."]
    outcomes = dict.fromkeys(row.outcome for row in found.rows)
    advice = dict.fromkeys(MEANINGS.get(outcome, ("", ""))[1] for outcome in outcomes)
    return [f"{response_to(found.error)[2]}.", *(f"- {text}" for text in advice if text)]
