"""``python -m scrapper middlewares``: show the middlewares that result from the settings."""

import sys

from aiohttp import web

from scrapper.access.keys import ApiKeys
from scrapper.plugins.loading import Plugins
from scrapper.serving.request_path import check_path, path_names, path_warnings, request_path
from scrapper.setting_types import OWN_MIDDLEWARES
from scrapper.settings import load_settings

__all__ = ["middlewares"]


def middlewares() -> int:
    """Print the middlewares, outermost first, and warnings about them; return 0.

    Raises:
        SettingsError: the service would not start with these settings.
    """
    settings = load_settings()
    needs_key = ApiKeys(settings).needed
    check_path(settings, needs_key=needs_key)
    plugins = Plugins.from_settings(settings)
    # Building the request path calls the user's and the plugins' factories, which checks them.
    own = dict.fromkeys(OWN_MIDDLEWARES, tuple)
    list(request_path(settings, web.Application(), own, plugins.middlewares(settings)))
    off = {} if needs_key else {"api_key": " (off: no key is set)"}
    if not settings.rate_limit_max_requests:
        off["rate_limit"] = " (off: RATE_LIMIT_MAX_REQUESTS is 0)"
    lines = [name + off.get(name, "") for name in path_names(settings)]
    made = [plugin for plugin in plugins if "register_middlewares" in plugin.hooks]
    lines += [f"plugin {plugin.name}" for plugin in made]
    for number, line in enumerate(lines, start=1):
        print(f"{number}. {line}")
    for text in path_warnings(settings, needs_key=needs_key):
        print(f"Warning: {text}.", file=sys.stderr)
    return 0
