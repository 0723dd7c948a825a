"""A plugin that notifies people through Apprise: ntfy, Gotify, Telegram, mail and more.

``PLUGINS=notify`` and ``NOTIFY_URLS``, with the packages of ``requirements/notify.txt``. The hooks
put messages into an outbox. A process of the service sends them, those for each target in a
thread of its own, and retries what failed. No log has a target's URL, which holds secrets.
"""

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import structlog
from aiohttp import web
from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from scrapper.errors import SettingsError
from scrapper.instagram.login.session import LoginState
from scrapper.jobs.model import JobPost, JobResponse
from scrapper.library.disk import open_lock, try_lock
from scrapper.library.root import MediaRoot
from scrapper.plugins.calls import Call, NotReturned
from scrapper.plugins.conditions import Condition
from scrapper.plugins.hooks import hookimpl
from scrapper.plugins.outbox import Message, Outbox
from scrapper.settings import Settings, explain
from scrapper.tasks import end, in_background

__all__ = [
    "EVENTS",
    "condition_changed",
    "configure",
    "job_finished",
    "login_changed",
    "register_routes",
]

log = structlog.get_logger(__name__)

EVENTS = ("job", "posts", "login", "disk", "instagram")
"""A job is done, posts of one failed, the login needs a person, the disk is nearly full, Instagram
refuses for an hour."""

_NAME = "[A-Za-z0-9_-]{1,32}"
_URL = "[A-Za-z][A-Za-z0-9+.-]*://"
_BETWEEN = re.compile(rf"[\s,]+(?=(?:{_NAME}=)?{_URL})")
_TARGET = re.compile(rf"(?:({_NAME})=)?({_URL}\S*)")
_CHOICE = re.compile(rf"(?:({_NAME})=)?([a-z,]+)")
_MOST_TARGETS = 20
_MOST_POSTS = 5
_SECONDS_TO_SEND = 60.0
_SECONDS_TO_END = 2.0
_SECONDS_BETWEEN_LOOKS = 1.0
_CONDITIONS = {
    "disk_nearly_full": (
        Message("disk", "The disk is nearly full", "Remove posts, or give the service more room."),
        "The disk has room again. It was nearly full.",
    ),
    "instagram_refuses": (
        Message(
            "instagram",
            "Instagram has refused for an hour",
            "It answered only with limits. Jobs wait; other requests are refused.",
        ),
        "Instagram answers again. It had refused for more than an hour.",
    ),
}
_LOGIN = {
    "expired": "Instagram ended the session: give the service new cookies.",
    "challenged": "Instagram wants a person to look at the account in a browser.",
}
_LOGIN_IS_WELL = "The login needed attention, but its state has changed."


@dataclass(frozen=True, slots=True)
class _Target:
    """Where notifications go; *url* is secret, *name* is not."""

    name: str
    url: str
    events: Sequence[str] = EVENTS


def _targets(urls: SecretStr) -> SecretStr:
    _read_targets(urls.get_secret_value())
    return urls


def _read_targets(text: str) -> list[_Target]:
    targets: list[_Target] = []
    for number, part in enumerate(_BETWEEN.split(text.strip(", \t\r\n")), start=1):
        found = _TARGET.fullmatch(part)
        if found is None:
            # The URL itself may be a secret.
            raise ValueError(
                f"number {number} is not an Apprise URL; write the URLs with spaces between, "
                "each optionally with a name: phone=ntfys://..."
            )
        targets.append(_Target(found[1] or str(number), found[2]))
    if len({target.name for target in targets}) < len(targets) or len(targets) > _MOST_TARGETS:
        raise ValueError(f"give each of at most {_MOST_TARGETS} targets a name of its own")
    return targets


def _read_choices(text: str) -> dict[str, Sequence[str]]:
    """Return the events that each target wants, by its name; the empty name stands for all others."""
    choices: dict[str, Sequence[str]] = {}
    for part in text.split():
        found = _CHOICE.fullmatch(part)
        events = found[2].split(",") if found else ()
        if found is None or (found[1] or "") in choices or not set(events) <= set(EVENTS):
            raise ValueError(
                f"write events, or NAME=events, with spaces between; there are {', '.join(EVENTS)}"
            )
        choices[found[1] or ""] = events
    return choices


def _choices(text: str) -> str:
    _read_choices(text)
    return text


class _NotifySettings(BaseSettings):
    """The plugin's settings."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    notify_urls: Annotated[SecretStr, AfterValidator(_targets), Field(validate_default=True)] = (
        SecretStr("")
    )
    notify_events: Annotated[str, AfterValidator(_choices)] = ""

    def targets(self) -> list[_Target]:
        """Return the targets, each with the events that go there.

        Raises:
            SettingsError: events are for a target that is not there.
        """
        targets = _read_targets(self.notify_urls.get_secret_value())
        choices = _read_choices(self.notify_events)
        usual = choices.pop("", EVENTS)
        if unknown := choices.keys() - {target.name for target in targets}:
            raise SettingsError(f"NOTIFY_EVENTS: NOTIFY_URLS has no {', '.join(sorted(unknown))}")
        return [
            _Target(target.name, target.url, choices.get(target.name, usual)) for target in targets
        ]


class _Notifier:
    """The hooks, and what they share: only one hook gets an application that could keep it."""

    _targets: Sequence[_Target]
    _outbox: Outbox
    _lock: Path

    @hookimpl
    def configure(self, settings: Settings) -> None:
        """Check that there are targets, and that Apprise knows them; nothing is sent yet.

        Raises:
            SettingsError: there are no targets, or Apprise does not know one.
        """
        try:
            self._targets = _NotifySettings().targets()
        except ValidationError as error:
            raise SettingsError(explain(error)) from None
        for target in self._targets:
            if not _made(target):
                raise SettingsError(f"NOTIFY_URLS: Apprise cannot use the URL of {target.name}")
        state = MediaRoot(settings.media_root).state
        self._outbox = Outbox(state / "notify.json")
        self._lock = state / "sending.lock"

    @hookimpl
    def job_finished(self, job: JobResponse) -> None:
        """Put the outcome of *job* into the outbox.

        Raises:
            OSError, ScrapeError: the message cannot be stored.
        """
        outcomes = [f"{post.state} {post.code}" for post in job.posts]
        self._add("job", " ".join([job.id, *outcomes]), list(_of_job(job)))

    @hookimpl
    def login_changed(self, login: LoginState) -> None:
        """Put a message into the outbox if the login needs a person.

        Raises:
            OSError, ScrapeError: the message cannot be stored.
        """
        if login.state in _LOGIN:
            account = f" ({login.username})" if login.username else ""
            title = f"The Instagram login{account} needs attention"
            message = Message("login", title, _LOGIN[login.state])
            self._add("login", f"{login.state} {login.since}", [message])
        else:
            self._outbox.amend("login", _LOGIN_IS_WELL)

    @hookimpl
    def condition_changed(self, condition: Condition) -> None:
        """Put a message into the outbox if *condition* began to hold.

        Raises:
            OSError, ScrapeError: the message cannot be stored.
        """
        message, over = _CONDITIONS[condition.name]
        if not condition.holds:
            self._outbox.amend(message.kind, over)
        self._add(condition.name, str(condition.holds), [message] if condition.holds else [])

    @hookimpl
    def register_routes(self, app: web.Application) -> Iterable[web.RouteDef]:
        """Send what is in the outbox while *app* runs; no routes."""
        app.cleanup_ctx.append(self._sending)
        return ()

    def _add(self, source: str, event: str, messages: Sequence[Message]) -> None:
        addressed = [
            (target.name, message)
            for target in self._targets
            for message in messages
            if message.kind in target.events
        ]
        self._outbox.add(source, event, addressed)

    async def _sending(self, _app: web.Application) -> AsyncIterator[None]:
        ending = asyncio.Event()
        sending = in_background(self._send_in_turn(ending), "notifications")
        yield
        ending.set()
        # Otherwise a notification on its way would come again after the next start.
        await asyncio.wait([sending], timeout=_SECONDS_TO_END)
        await end(sending)

    async def _send_in_turn(self, ending: asyncio.Event) -> None:
        """Send once no other process does; the lock ends with the process."""
        lock = await asyncio.to_thread(open_lock, self._lock)
        try:
            while not await asyncio.to_thread(try_lock, lock):
                if await _is_set(ending):
                    return
            await asyncio.to_thread(self._outbox.hasten)
            await asyncio.gather(*(self._send_all(target, ending) for target in self._targets))
        finally:
            os.close(lock)

    async def _send_all(self, target: _Target, ending: asyncio.Event) -> None:
        while not await _is_set(ending):
            for message in await asyncio.to_thread(self._outbox.due, target.name):
                call = Call.of(self._send, target, message)
                try:
                    await call.result(_SECONDS_TO_SEND)
                except NotReturned:
                    log.warning("target does not return", target=target.name)
                    await call.ended()
                if ending.is_set():
                    return

    def _send(self, target: _Target, message: Message) -> None:
        """Send *message*, and note how that went; blocking."""
        known = {"target": target.name, "kind": message.kind, "count": message.count}
        try:
            made = _made(target)
            sent = made and made.notify(
                title=message.title,
                body=message.text,
                # The text may hold what clients sent, so it is not markup.
                body_format="text",
                notify_type="info" if message.kind == "job" else "warning",
            )
            cause = "" if sent else "refused or unreachable"
        # The error's text may hold the URL, and a target may raise anything.
        except Exception as error:  # noqa: BLE001
            cause = type(error).__name__
        if cause:
            pause = self._outbox.note_failed(target.name, message)
            log.warning("notification not sent", **known, cause=cause, next_try=pause)
        else:
            # At once: after a crash in between, the notification would come a second time.
            self._outbox.note_sent(target.name, message)
            log.info("notification sent", **known)


async def _is_set(ending: asyncio.Event) -> bool:
    """Wait for *ending* until it is time to look again; return whether *ending* is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_SECONDS_BETWEEN_LOOKS):
            await ending.wait()
    return ending.is_set()


def _made(target: _Target) -> Any:
    """Apprise's object for the target's URL; None if Apprise does not know the URL."""
    try:
        from apprise import Apprise, AppriseAsset  # noqa: PLC0415 - only where the plugin is used
    except ImportError as error:
        raise SettingsError("install requirements/notify.txt for it") from error
    # These loggers quote URLs and tokens.
    for name in ("apprise", "oauthlib", "requests_oauthlib"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    # No picture from a third party's server.
    asset = AppriseAsset(
        app_id="instagram-scrapper", app_desc="instagram-scrapper", image_url_mask=""
    )
    made = Apprise(asset=asset)
    return made if made.add(target.url) else None


def _of_job(job: JobResponse) -> Iterable[Message]:
    """Return the messages about a finished *job*; none about a cancelled one."""
    failed = [post for post in job.posts if post.state == "failed"]
    if job.state == "done":
        stored = len(job.posts) - len(failed)
        yield Message("job", "A job is done", f"{stored} of {_posts(job.posts)} stored.")
    if failed:
        lines = [f"{post.url}: {post.error}" for post in failed[:_MOST_POSTS]]
        if len(failed) > _MOST_POSTS:
            lines.append(f"and {len(failed) - _MOST_POSTS} more")
        yield Message("posts", f"{_posts(failed)} of a job failed", "\n".join(lines))


def _posts(posts: Sequence[JobPost]) -> str:
    return f"{len(posts)} post" + ("" if len(posts) == 1 else "s")


_notifier = _Notifier()
configure: Callable[..., Any] = _notifier.configure
job_finished: Callable[..., Any] = _notifier.job_finished
login_changed: Callable[..., Any] = _notifier.login_changed
condition_changed: Callable[..., Any] = _notifier.condition_changed
register_routes: Callable[..., Any] = _notifier.register_routes
