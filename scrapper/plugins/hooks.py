"""The hooks that a plugin can have.

A plugin is a module with some of these functions, each marked with :data:`hookimpl`. It may leave
out arguments that it does not need. ``docs/plugins.md`` has an example of each.

The ``register_`` hooks and :func:`configure` are called once, at the start, which waits for them.
The other hooks may be coroutines or plain functions. Each call runs in a thread of its own, where a
coroutine gets an event loop. A call may take ``PLUGIN_TIMEOUT_SECONDS``. If it fails, it is tried
again, three times in all. After a crash, the call for an event may come a second time.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import pluggy
from aiohttp import web
from aiohttp.typedefs import Middleware

from scrapper.instagram.login.session import LoginState
from scrapper.instagram.sources import Source
from scrapper.jobs.model import JobResponse
from scrapper.library.additions import Additions
from scrapper.library.post import Post
from scrapper.plugins.conditions import Condition
from scrapper.settings import Settings

__all__ = [
    "PROJECT",
    "condition_changed",
    "configure",
    "hookimpl",
    "job_finished",
    "login_changed",
    "post_removed",
    "post_stored",
    "register_commands",
    "register_middlewares",
    "register_routes",
    "register_sources",
]

PROJECT = "instagram_scrapper"
"""The group of entry points that plugins are found under, and pluggy's project name."""

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a plugin's function as one of the hooks here."""

_hook = pluggy.HookspecMarker(PROJECT)


@_hook
def configure(settings: Settings) -> None:
    """Check at the start that the plugin can work.

    Each process that uses the plugin calls this before its other hooks. *settings* has no keys,
    cookies or passwords, here and below.

    Raises:
        SettingsError: the plugin cannot work; the process ends with the message.
    """


@_hook
def register_middlewares(settings: Settings) -> Iterable[Middleware]:  # type: ignore[empty-body]
    """Return middlewares, outermost first; they run inside all others."""


@_hook
def register_routes(app: web.Application) -> Iterable[web.RouteDef]:  # type: ignore[empty-body]
    """Return routes, such as ``web.get("/hello", hello)``. They need the API key.

    A path that exists already is an error.
    """


@_hook
def register_sources(settings: Settings) -> Iterable[Source]:  # type: ignore[empty-body]
    """Return further ways of finding a post, which are asked after those of this service.

    A source runs in a thread. It returns Instagram's media object, or raises
    :class:`~scrapper.instagram.verdict.Refused`, before ``context.transport.deadline``, a
    monotonic time. It should send its requests through *context*, which keeps the pace.
    """


@_hook
def register_commands(parser: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add commands to ``python -m scrapper``, by ``parser.add_parser(name, help=...)``.

    A command needs ``set_defaults(func=run)``; ``run(options)`` returns the exit code, or None.
    """


@_hook
def post_stored(post: Post, folder: Path) -> Additions | None:
    """Take note that *post* was stored, or stored again; its files are in *folder*.

    The returned additions become part of the post.
    """


@_hook
def post_removed(shortcode: str) -> None:
    """Take note that a post was removed, by a client, by a sweep or by a person.

    If the plugin has :func:`post_stored`, it got the post before, even if that call failed.
    """


@_hook
def job_finished(job: JobResponse) -> None:
    """Take note that all posts of *job* have outcomes."""


@_hook
def login_changed(login: LoginState) -> None:
    """Take note of a new state of the Instagram login.

    Of several changes in a row, the plugin may get only the last one.
    """


@_hook
def condition_changed(condition: Condition) -> None:
    """Take note that a condition began to hold, or ended.

    :data:`~scrapper.plugins.conditions.ConditionName` has all of them. The plugin does not get a
    condition that ended before the call.
    """
