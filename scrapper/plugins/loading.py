"""Finds plugins, and collects what they register at startup."""

import argparse
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import structlog
from aiohttp import hdrs, web
from pluggy import HookImpl, PluginManager, PluginValidationError

from scrapper.errors import SettingsError
from scrapper.instagram.context import Context
from scrapper.instagram.shortcode import Shortcode
from scrapper.instagram.sources import LOGGED_OUT, WITH_SESSION, Source
from scrapper.instagram.verdict import Reason, Refused, reason_of_error
from scrapper.plugins import hooks
from scrapper.serving.base_path import check_base_path
from scrapper.setting_types import OWN_PLUGINS_PACKAGE
from scrapper.settings import Settings

__all__ = ["Plugin", "Plugins"]

log = structlog.get_logger(__name__)

_FROM_SETTINGS = "PLUGINS"
_MAX_HANGING = 8
_GRACE_SECONDS = 1.0
_PLACEHOLDER = re.compile(r"\{[^}]*\}")


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin in use: its *name*, its *origin*, and its functions by hook name."""

    name: str
    origin: str
    hooks: dict[str, HookImpl]

    @property
    def follows_posts(self) -> bool:
        """Whether the plugin has a hook for posts."""
        return "post_stored" in self.hooks or "post_removed" in self.hooks

    @property
    def follows_jobs(self) -> bool:
        """Whether the plugin has a hook for jobs."""
        return "job_finished" in self.hooks

    @property
    def follows_conditions(self) -> bool:
        """Whether the plugin has a hook for the login's state or for conditions."""
        return "login_changed" in self.hooks or "condition_changed" in self.hooks


class Plugins:
    """The plugins in use. The methods block, and are meant to be called at startup.

    The plugins are the modules in *named*, and all plugins installed under the entry point group
    ``instagram_scrapper``. A plugin has the name of its module or of its entry point. For the
    service's own plugins, only the last part of the module's name is used.

    Raises:
        SettingsError: a plugin cannot be loaded, has an unknown hook, or has the same name as
            another plugin.
    """

    def __init__(self, named: Sequence[str]) -> None:
        self._manager = PluginManager(hooks.PROJECT)
        self._manager.add_hookspecs(hooks)
        self._origins: dict[str, str] = {}
        for point in sorted(entry_points(group=hooks.PROJECT)):
            package = point.dist
            origin = f"{package.name} {package.version}" if package else point.value
            self._add(point.name, origin, point.load)
        for module in named:
            name = module.removeprefix(OWN_PLUGINS_PACKAGE)
            self._add(name, _FROM_SETTINGS, partial(import_module, module))
        try:
            self._manager.check_pending()
        except PluginValidationError as error:
            raise SettingsError(f"PLUGINS: {error}") from error

    @classmethod
    def from_settings(cls, settings: Settings) -> "Plugins":
        """Load and configure the installed plugins and those named in *settings*.

        Raises:
            SettingsError: a plugin cannot be loaded, or its ``configure`` hook failed.
        """
        plugins = cls(settings.plugins)
        plugins._call("configure", settings.without_secrets())
        return plugins

    def __iter__(self) -> Iterator[Plugin]:
        for name, origin in self._origins.items():
            plugin = self._manager.get_plugin(name)
            found = {
                caller.name: impl
                for caller in self._manager.get_hookcallers(plugin) or ()
                for impl in caller.get_hookimpls()
                if impl.plugin is plugin
            }
            yield Plugin(name, origin, found)

    @property
    def followers(self) -> list[Plugin]:
        """The plugins with hooks for events."""
        return [
            plugin
            for plugin in self
            if plugin.follows_posts or plugin.follows_jobs or plugin.follows_conditions
        ]

    @property
    def job_followers(self) -> list[str]:
        """The names of the plugins with a hook for jobs."""
        return [plugin.name for plugin in self if plugin.follows_jobs]

    def middlewares(self, settings: Settings) -> Iterator[tuple[str, object]]:
        """Yield the plugins' middlewares, outermost first, each with its plugin's name.

        Raises:
            SettingsError: a plugin failed.
        """
        for plugin, made in self._call("register_middlewares", settings.without_secrets()):
            for middleware in made:
                yield plugin, middleware

    def sources(self, settings: Settings) -> Sequence[Source]:
        """Return the plugins' sources of posts.

        A source that fails is treated as if it had refused the post.

        Raises:
            SettingsError: a plugin failed or returned something else, or two sources have the same
                name.
        """
        sources: list[Source] = []
        taken = {source.name for source in (*LOGGED_OUT, *WITH_SESSION)}
        for plugin, made in self._call("register_sources", settings.without_secrets()):
            for source in made:
                if not isinstance(source, Source):
                    raise SettingsError(f"plugin {plugin}: {source!r} is not a Source")
                if source.name in taken:
                    raise SettingsError(f"plugin {plugin}: the source {source.name} already exists")
                taken.add(source.name)
                sources.append(_guarded(source))
        return sources

    def add_routes(self, app: web.Application, prefix: str) -> None:
        """Add the plugins' routes to *app*, and also under *prefix* if it is not empty.

        Raises:
            SettingsError: a plugin failed, or a path already exists.
        """
        for plugin, made in self._call("register_routes", app):
            for route in made:
                if not isinstance(route, web.RouteDef):
                    raise SettingsError(f"plugin {plugin}: {route!r} is not a web.RouteDef")
                check_base_path(prefix, [route.path])
                for start in dict.fromkeys(("", prefix)):
                    _add_route(app, start, route, plugin)

    def add_commands(self, parser: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
        """Add the plugins' commands to *parser*.

        Raises:
            SettingsError: a plugin failed.
        """
        self._call("register_commands", parser)

    def _add(self, name: str, origin: str, load: Callable[[], Any]) -> None:
        try:
            loaded = load()
            # An installed plugin keeps the name of its entry point even if PLUGINS also names it.
            if self._manager.is_registered(loaded) and name not in self._origins:
                return
            if name in self._origins:
                raise SettingsError("another plugin has this name")
            self._manager.register(loaded, name)
            if origin == _FROM_SETTINGS and not self._manager.get_hookcallers(loaded):
                raise SettingsError("it has no hooks: is @hookimpl missing?")
        # A plugin may raise anything while it is imported, even SystemExit.
        except (Exception, SystemExit) as error:
            raise SettingsError(f"plugin {name}: cannot be loaded: {error}") from error
        self._origins[name] = origin

    def _call(self, hook: str, argument: Any) -> list[tuple[str, list[Any]]]:
        """Call the *hook* of each plugin; return the plugins' names, each with the result."""
        results = []
        for plugin in self:
            if hook not in plugin.hooks:
                continue
            impl = plugin.hooks[hook]
            try:
                made: Any = impl.function(*[argument for _ in impl.argnames])
                results.append((plugin.name, list(made or ())))
            except SettingsError as error:
                raise SettingsError(f"plugin {plugin.name}: {error}") from error
            # A plugin may raise anything, even SystemExit.
            except (Exception, SystemExit) as error:
                raise SettingsError(
                    f"plugin {plugin.name}: {hook} failed: {type(error).__name__}: {error}"
                ) from error
        return results


def _guarded(source: Source) -> Source:
    """Wrap *source* so that the service survives a source that hangs or raises anything."""
    hanging = threading.BoundedSemaphore(_MAX_HANGING)

    def ask(context: Context, shortcode: Shortcode) -> dict[str, Any]:
        transport = context.transport
        deadline = transport.deadline
        outcome: Future[Any] = Future()

        def run() -> None:
            transport.deadline = deadline
            try:
                outcome.set_result(source.ask(context, shortcode))
            # A plugin may raise anything, even SystemExit.
            except BaseException as error:  # noqa: BLE001
                outcome.set_exception(error)
            finally:
                hanging.release()

        if not hanging.acquire(blocking=False):
            raise Refused(Reason.CLOSED)
        threading.Thread(target=run, name="source", daemon=True).start()
        try:
            error = outcome.exception(max(0.0, deadline - time.monotonic()) + _GRACE_SECONDS)
        except TimeoutError:
            transport.abandoned = True
            log.error("source does not return", source=source.name)  # noqa: TRY400
            raise Refused(Reason.LATE) from None
        if error is not None:
            if isinstance(error, Refused) or reason_of_error(error) is not None:
                raise error
            log.error("source failed", source=source.name, exc_info=error)
            raise Refused(Reason.FAILED) from error
        media = outcome.result()
        if not isinstance(media, dict):
            raise Refused(Reason.CHANGED)
        return media

    return Source(source.name, ask)


def _add_route(app: web.Application, prefix: str, route: web.RouteDef, plugin: str) -> None:
    path = prefix + route.path
    where = f"plugin {plugin}: {route.method} {path}"
    taken = {
        (known.method, _PLACEHOLDER.sub("{}", known.resource.canonical))
        for known in app.router.routes()
        if known.resource
    }
    if taken & {(method, _PLACEHOLDER.sub("{}", path)) for method in (route.method, hdrs.METH_ANY)}:
        raise SettingsError(f"{where} already exists")
    try:
        app.add_routes([web.RouteDef(route.method, path, route.handler, route.kwargs)])
    # aiohttp may raise anything here.
    except Exception as error:
        raise SettingsError(f"{where}: {error}") from error
