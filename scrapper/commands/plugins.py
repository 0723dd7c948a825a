"""``python -m scrapper plugins``: which plugins are in use, and how far each is."""

import asyncio
from collections.abc import Mapping
from functools import partial

from scrapper.commands.output import logs_if_asked, say_folder
from scrapper.errors import SettingsError
from scrapper.library.root import MediaRoot
from scrapper.library.store import Library
from scrapper.plugins.following import Followers
from scrapper.plugins.ledger import LEDGER, Ledger
from scrapper.plugins.loading import Plugin, Plugins
from scrapper.scraping.peers import Alone
from scrapper.settings import Settings, load_settings
from scrapper.telemetry.metrics import Metrics

__all__ = ["plugins"]

# Somebody waits.
_PAUSES = (1.0, 10.0)


def plugins(*, again: str | None) -> int:
    """Print a line for each plugin; with *again*, run that plugin over the whole library.

    A service that runs does the latter itself, within seconds. Return 0, or 1 if the plugin gave
    up on some posts.

    Raises:
        SettingsError: a plugin cannot be loaded, there is none called *again*, or no service has
            used the folder yet.
    """
    settings = load_settings()
    found = Plugins.from_settings(settings)
    say_folder(MediaRoot(settings.media_root), must_be_used=True)
    if again is None:
        asyncio.run(_tell(settings, found))
        return 0
    chosen = [plugin for plugin in found.followers if plugin.name == again]
    if not chosen or not chosen[0].follows_posts:
        raise SettingsError(f"--again: no plugin called {again} wants to know of posts")
    return _run_again(settings, chosen[0])


async def _tell(settings: Settings, found: Plugins) -> None:
    """Print how far each plugin is; the library and the ledger are only read."""
    library = Library(settings.media_root)
    path = settings.media_root / ".state" / LEDGER
    posts = await library.versions()
    ledger = Ledger(path) if path.exists() else None
    for plugin in found:
        hooks = ", ".join(sorted(plugin.hooks)) or "no hooks: is @hookimpl missing?"
        print(f"{plugin.name} ({plugin.origin}): {hooks}{_state(plugin, ledger, posts)}")
    if ledger is not None:
        ledger.close()


def _state(plugin: Plugin, ledger: Ledger | None, posts: Mapping[str, int]) -> str:
    if not plugin.follows_posts:
        return ""
    if ledger is None or ledger.unknown([plugin.name]):
        return "; not started yet"
    outcomes, told = ledger.outcomes(plugin.name), ledger.posts(plugin.name)
    behind = sum(told.get(shortcode) != version for shortcode, version in posts.items())
    behind += len(told.keys() - posts.keys())
    skipped = f", {outcomes['skipped']} from before it" if outcomes["skipped"] else ""
    return f"; {outcomes['done']} done, {outcomes['failed']} failed, {behind} behind{skipped}"


def _run_again(settings: Settings, plugin: Plugin) -> int:
    # Nobody else may use it meanwhile, with Redis or without.
    root = MediaRoot(settings.media_root)
    ledger = Ledger(root.state / LEDGER)
    try:
        root.open()
        is_free = True
    except SettingsError:
        is_free = False
    ledger.forget_all(plugin.name)
    if not is_free:
        # It sees the ledger, too.
        print("The running service does it: python -m scrapper plugins shows how far it is.")
        return 0
    with logs_if_asked(settings, tuple):
        worked = asyncio.run(_catch_up(settings, plugin, root, ledger))
    outcomes = ledger.outcomes(plugin.name)
    print(f"{plugin.name}: {outcomes['done']} done, {outcomes['failed']} failed")
    ledger.close()
    root.close()
    return 0 if worked else 1


async def _catch_up(settings: Settings, plugin: Plugin, root: MediaRoot, ledger: Ledger) -> bool:
    followers = Followers(
        [plugin],
        Library(root.path, check=root.check),
        ledger,
        Metrics(),
        turn=partial(Alone().exclusively, in_doubt=True),
        shared=False,
        timeout=settings.plugin_timeout_seconds,
        pauses=_PAUSES,
    )
    return await followers.catch_up()
