"""``python -m scrapper plugins``: show the progress of the plugins, or run one again."""

import asyncio
from collections.abc import Mapping

from scrapper.assembly import PluginParts, assemble_plugins
from scrapper.commands.output import logs_if_enabled, print_folder
from scrapper.errors import SettingsError
from scrapper.plugins.follower import Followers, Pauses
from scrapper.plugins.ledger import LEDGER, Ledger
from scrapper.plugins.loading import Plugin
from scrapper.settings import load_settings

__all__ = ["plugins"]

# These pauses are short, because the user is waiting for the command.
_PAUSES = Pauses(tries=(1.0, 10.0))


def plugins(*, again: str | None) -> int:
    """Print a line for each plugin, or run one plugin over the whole library.

    *again* is the name of the plugin to run; None means that no plugin is run. If a service is
    running, the service starts the plugin within seconds, and this function does not wait for it.
    Return 0, or 1 if the plugin failed for some posts.

    Raises:
        SettingsError: a plugin cannot be loaded, no plugin with a hook for posts has the name
            *again*, or no service has used the folder yet.
    """
    parts = assemble_plugins(load_settings(), pauses=_PAUSES)
    print_folder(parts.root, must_be_used=True)
    if again is None:
        asyncio.run(_show(parts))
        return 0
    chosen = [plugin for plugin in parts.plugins.followers if plugin.name == again]
    if not chosen or not chosen[0].follows_posts:
        raise SettingsError(f"--again: no plugin called {again} has a hook for posts")
    return _run_again(parts, chosen[0])


async def _show(parts: PluginParts) -> None:
    """Print the progress of each plugin, without changing the library or the ledger."""
    library, ledger = parts.followed.library, parts.followed.ledger
    posts = await library.versions()
    begun = ledger if (parts.root.state / LEDGER).exists() else None
    for plugin in parts.plugins:
        hooks = ", ".join(sorted(plugin.hooks)) or "no hooks: is @hookimpl missing?"
        print(f"{plugin.name} ({plugin.origin}): {hooks}{_state(plugin, begun, posts)}")
    ledger.close()


def _state(plugin: Plugin, ledger: Ledger | None, posts: Mapping[str, int]) -> str:
    if not plugin.follows_posts:
        return ""
    if ledger is None or ledger.unknown([plugin.name]):
        return "; not started yet"
    outcomes, known = ledger.outcomes(plugin.name), ledger.posts(plugin.name)
    behind = sum(known.get(shortcode) != version for shortcode, version in posts.items())
    behind += len(known.keys() - posts.keys())
    skipped = f", {outcomes['skipped']} older than the plugin" if outcomes["skipped"] else ""
    return f"; {outcomes['done']} done, {outcomes['failed']} failed, {behind} behind{skipped}"


def _run_again(parts: PluginParts, plugin: Plugin) -> int:
    root, ledger = parts.root, parts.followed.ledger
    try:
        root.open()
    except SettingsError:
        # The process that uses the folder will notice the change in the ledger.
        ledger.forget_all(plugin.name)
        print("The running service will do this. To see the progress: python -m scrapper plugins")
        return 0
    ledger.forget_all(plugin.name)
    with logs_if_enabled(parts.settings, tuple):
        worked = asyncio.run(Followers([plugin], parts.followed).catch_up())
    outcomes = ledger.outcomes(plugin.name)
    print(f"{plugin.name}: {outcomes['done']} done, {outcomes['failed']} failed")
    ledger.close()
    root.close()
    return 0 if worked else 1
