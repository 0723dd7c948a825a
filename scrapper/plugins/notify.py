"""A plugin that sends notifications through Apprise: to ntfy, Gotify, Telegram, email and more.

To use it, install ``requirements/notify.txt``, and set ``PLUGINS=notify`` and ``NOTIFY_URLS``. The
hooks put messages into an outbox. One process of the service sends the messages, in one thread per
target, and retries those that it could not send. The log never contains the URL of a target,
because the URL may contain secrets.
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
"""The events, in order: a job is done; posts of a job failed; the login needs attention; the disk
is nearly full; Instagram has rate-limited every request for an hour.
"""

_NAME = "[A-Za-z0-9_-]{1,32}"
_URL = "[A-Za-z][A-Za-z0-9+.-]*://"
_BETWEEN = re.compile(rf"[\s,]+(?=(?:{_NAME}=)?{_URL})")
_TARGET = re.compile(rf"(?:({_NAME})=)?({_URL}\S*)")
_CHOICE = re.compile(rf"(?:({_NAME})=)?([a-z,]+)")
_MAX_TARGETS = 20
_MAX_POSTS_SHOWN = 5
_SEND_SECONDS = 60.0
_SHUTDOWN_SECONDS = 2.0
_POLL_SECONDS = 1.0
_CONDITIONS = {
    "disk_nearly_full": (
        Message("disk", "The disk is nearly full", "Remove posts, or free up space."),
        "The disk was nearly full, but has free space again.",
    ),
    "instagram_refuses": (
        Message(
            "instagram",
            "Instagram has rate-limited every request for an hour",
            "Jobs are waiting. Other requests for posts are refused.",
        ),
        "Instagram is answering again. It had rate-limited every request for more than an hour.",
    ),
}
_LOGIN = {
    "expired": "Instagram ended the session. Log in again with new cookies.",
    "challenged": "Instagram asks you to confirm the account in a browser.",
}
_LOGIN_CHANGED = "The login needed attention, but its state has changed since then."


@dataclass(frozen=True, slots=True)
class _Target:
    """A destination of notifications. The *url* may contain secrets, so logs show the *name*."""

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
                f"number {number} is not an Apprise URL; separate URLs with spaces, each "
                "optionally with a name: phone=ntfys://..."
            )
        targets.append(_Target(found[1] or str(number), found[2]))
    if len({target.name for target in targets}) < len(targets) or len(targets) > _MAX_TARGETS:
        raise ValueError(f"list at most {_MAX_TARGETS} targets, each with a different name")
    return targets


def _read_choices(text: str) -> dict[str, Sequence[str]]:
    """Return the events for each target by name. The empty name means all other targets."""
    choices: dict[str, Sequence[str]] = {}
    for part in text.split():
        found = _CHOICE.fullmatch(part)
        events = found[2].split(",") if found else ()
        if found is None or (found[1] or "") in choices or not set(events) <= set(EVENTS):
            raise ValueError(
                "write one list of events (such as job,disk), or NAME=LIST for each target, "
                f"separated by spaces; the events are {', '.join(EVENTS)}"
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
        """Return the targets, each with its events.

        Raises:
            SettingsError: ``NOTIFY_EVENTS`` names an unknown target.
        """
        targets = _read_targets(self.notify_urls.get_secret_value())
        choices = _read_choices(self.notify_events)
        default = choices.pop("", EVENTS)
        if unknown := choices.keys() - {target.name for target in targets}:
            raise SettingsError(
                f"NOTIFY_EVENTS: NOTIFY_URLS has no target called {', '.join(sorted(unknown))}"
            )
        return [
            _Target(target.name, target.url, choices.get(target.name, default))
            for target in targets
        ]


class _Notifier:
    """The hooks, and the state that they share.

    The state cannot be kept in the application, because only ``register_routes`` is passed the
    application.
    """

    _targets: Sequence[_Target]
    _outbox: Outbox
    _lock: Path

    @hookimpl
    def configure(self, settings: Settings) -> None:
        """Check that there are targets and that Apprise supports their URLs, without sending.

        Raises:
            SettingsError: there are no targets, or Apprise does not support the URL of one.
        """
        try:
            self._targets = _NotifySettings().targets()
        except ValidationError as error:
            raise SettingsError(explain(error)) from None
        for target in self._targets:
            if not _apprise_for(target):
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
        self._add("job", " ".join([job.id, *outcomes]), list(_messages_of(job)))

    @hookimpl
    def login_changed(self, login: LoginState) -> None:
        """Put a message into the outbox if the login needs attention.

        Raises:
            OSError, ScrapeError: the message cannot be stored.
        """
        if login.state in _LOGIN:
            account = f" ({login.username})" if login.username else ""
            title = f"The Instagram login{account} needs attention"
            message = Message("login", title, _LOGIN[login.state])
            self._add("login", f"{login.state} {login.since}", [message])
        else:
            self._outbox.amend("login", _LOGIN_CHANGED)

    @hookimpl
    def condition_changed(self, condition: Condition) -> None:
        """Put a message into the outbox if the *condition* has begun.

        Raises:
            OSError, ScrapeError: the message cannot be stored.
        """
        message, over = _CONDITIONS[condition.name]
        if not condition.holds:
            self._outbox.amend(message.kind, over)
        self._add(condition.name, str(condition.holds), [message] if condition.holds else [])

    @hookimpl
    def register_routes(self, app: web.Application) -> Iterable[web.RouteDef]:
        """Send the messages in the outbox while *app* runs. The plugin adds no routes."""
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
        # Otherwise, a notification that is being sent would be sent again after the next start.
        await asyncio.wait([sending], timeout=_SHUTDOWN_SECONDS)
        await end(sending)

    async def _send_in_turn(self, ending: asyncio.Event) -> None:
        """Wait for the lock that only one process can hold, then send messages."""
        lock = await asyncio.to_thread(open_lock, self._lock)
        try:
            while not await asyncio.to_thread(try_lock, lock):
                if await _wait_for(ending):
                    return
            await asyncio.to_thread(self._outbox.retry_now)
            await asyncio.gather(*(self._send_all(target, ending) for target in self._targets))
        finally:
            os.close(lock)

    async def _send_all(self, target: _Target, ending: asyncio.Event) -> None:
        while not await _wait_for(ending):
            for message in await asyncio.to_thread(self._outbox.due, target.name):
                call = Call.of(self._send, target, message)
                try:
                    await call.result(_SEND_SECONDS)
                except NotReturned:
                    log.warning("target does not return", target=target.name)
                    await call.ended()
                if ending.is_set():
                    return

    def _send(self, target: _Target, message: Message) -> None:
        """Send *message* and record the outcome. This blocks."""
        known = {"target": target.name, "kind": message.kind, "count": message.count}
        try:
            made = _apprise_for(target)
            sent = made and made.notify(
                title=message.title,
                body=message.text,
                # The text may contain what clients sent, so it must not be parsed as markup.
                body_format="text",
                notify_type="info" if message.kind == "job" else "warning",
            )
            cause = "" if sent else "refused or unreachable"
        # A target may raise anything, and the error's text may contain the URL.
        except Exception as error:  # noqa: BLE001
            cause = type(error).__name__
        if cause:
            pause = self._outbox.record_failed(target.name, message)
            log.warning("notification not sent", **known, cause=cause, next_try=pause)
        else:
            # Record this at once, or the notification would be sent again after a crash.
            self._outbox.record_sent(target.name, message)
            log.info("notification sent", **known)


async def _wait_for(ending: asyncio.Event) -> bool:
    """Wait for *ending*, at most one poll interval; return whether *ending* is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_POLL_SECONDS):
            await ending.wait()
    return ending.is_set()


def _apprise_for(target: _Target) -> Any:
    """Return Apprise's object for the target's URL, or None if Apprise does not support it."""
    try:
        from apprise import Apprise, AppriseAsset  # noqa: PLC0415 - only where the plugin is used
    except ImportError as error:
        raise SettingsError("install requirements/notify.txt") from error
    # These libraries log URLs and tokens.
    for name in ("apprise", "oauthlib", "requests_oauthlib"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    # Without this asset, notifications would load a picture from a third party's server.
    asset = AppriseAsset(
        app_id="instagram-scrapper", app_desc="instagram-scrapper", image_url_mask=""
    )
    made = Apprise(asset=asset)
    return made if made.add(target.url) else None


def _messages_of(job: JobResponse) -> Iterable[Message]:
    """Yield the messages about a finished *job*.

    One reports that the job is done, unless it was cancelled. Another lists failed posts, if any.
    """
    failed = [post for post in job.posts if post.state == "failed"]
    if job.state == "done":
        stored = len(job.posts) - len(failed)
        yield Message("job", "A job is done", f"{stored} of {_posts(job.posts)} stored.")
    if failed:
        lines = [f"{post.url}: {post.error}" for post in failed[:_MAX_POSTS_SHOWN]]
        if len(failed) > _MAX_POSTS_SHOWN:
            lines.append(f"and {len(failed) - _MAX_POSTS_SHOWN} more")
        yield Message("posts", f"{_posts(failed)} of a job failed", "\n".join(lines))


def _posts(posts: Sequence[JobPost]) -> str:
    return f"{len(posts)} post" + ("" if len(posts) == 1 else "s")


_notifier = _Notifier()
configure: Callable[..., Any] = _notifier.configure
job_finished: Callable[..., Any] = _notifier.job_finished
login_changed: Callable[..., Any] = _notifier.login_changed
condition_changed: Callable[..., Any] = _notifier.condition_changed
register_routes: Callable[..., Any] = _notifier.register_routes
