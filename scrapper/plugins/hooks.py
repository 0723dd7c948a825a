"""The hooks that a plugin can implement.

A plugin is a module that implements some of these functions, each marked with :data:`hookimpl`. An
implementation may omit arguments that it does not need. ``docs/plugins.md`` has an example of each.

A process calls the ``register_`` hooks and :func:`configure` once, at startup, and waits for them.
The other hooks may be coroutines or plain functions. They run in a separate thread, and a coroutine
runs there on a separate event loop. A call may take up to ``PLUGIN_TIMEOUT_SECONDS``. A failed call
is retried at most twice. After a crash, the call for an event may be repeated.
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
"""The entry point group of plugins, and pluggy's project name."""

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a plugin's function as an implementation of one of these hooks."""

_hook = pluggy.HookspecMarker(PROJECT)


@_hook
def configure(settings: Settings) -> None:
    """Check at startup that the plugin can work.

    Each process that uses the plugin calls this hook before the plugin's other hooks. *settings*
    contains no keys, cookies or passwords. The same applies to the *settings* of the other hooks.

    Raises:
        SettingsError: the plugin cannot work; the process exits with the message.
    """


@_hook
def register_middlewares(settings: Settings) -> Iterable[Middleware]:  # type: ignore[empty-body]
    """Return middlewares, outermost first. They run last, just before the handler."""


@_hook
def register_routes(app: web.Application) -> Iterable[web.RouteDef]:  # type: ignore[empty-body]
    """Return routes, such as ``web.get("/hello", hello)``. They require the API key.

    If a path already exists, the service does not start.
    """


@_hook
def register_sources(settings: Settings) -> Iterable[Source]:  # type: ignore[empty-body]
    """Return additional sources of posts, which are tried after the built-in ones.

    A source runs in a thread. It must return Instagram's media object, or raise
    :class:`~scrapper.instagram.verdict.Refused`, before ``context.transport.deadline`` (a time on
    the monotonic clock, in seconds). It should send its requests through *context*, which limits
    their rate.
    """


@_hook
def register_commands(parser: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add commands to ``python -m scrapper`` with ``parser.add_parser(name, help=...)``.

    A command needs ``set_defaults(func=run)``, where ``run(options)`` returns the exit code, or
    None for 0.
    """


@_hook
def post_stored(post: Post, folder: Path) -> Additions | None:
    """Handle a *post* that was stored, or stored again, with its files in *folder*.

    The returned additions become part of the post.
    """


@_hook
def post_removed(shortcode: str) -> None:
    """Handle the removal of a post, whether a client, a sweep or the operator removed it.

    If the plugin implements :func:`post_stored`, that hook was called for the post earlier, but
    the call may have failed.
    """


@_hook
def job_finished(job: JobResponse) -> None:
    """Handle a *job* that has finished, which means that all of its posts have an outcome."""


@_hook
def login_changed(login: LoginState) -> None:
    """Handle a new state of the Instagram login.

    If the state changes several times in quick succession, the plugin may get only the last
    change.
    """


@_hook
def condition_changed(condition: Condition) -> None:
    """Handle a condition that began or ended.

    :data:`~scrapper.plugins.conditions.ConditionName` lists the conditions. The plugin is not
    notified of a condition that ended before the plugin could be called.
    """
