"""Finding plugins and what they register. Errors are reported at startup."""

import argparse
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scrapper.errors import SettingsError
from scrapper.instagram.sources import Source
from scrapper.plugins.hooks import hookimpl
from scrapper.plugins.loading import Plugins
from scrapper.settings import Settings

pytestmark = pytest.mark.blocks


def module(monkeypatch: pytest.MonkeyPatch, name: str, **functions: Any) -> str:
    """Create a plugin, the module *name*; return its name."""
    made = ModuleType(name)
    for hook, function in functions.items():
        setattr(made, hook, hookimpl(function))
    monkeypatch.setitem(sys.modules, name, made)
    return name


def test_an_unknown_hook_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    name = module(monkeypatch, "mine", post_storred=lambda: None)
    with pytest.raises(SettingsError, match="post_storred"):
        Plugins([name])


def test_an_unknown_argument_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    name = module(monkeypatch, "mine", post_stored=lambda posts: posts)
    with pytest.raises(SettingsError, match="plugin mine: cannot be loaded"):
        Plugins([name])


def test_two_plugins_with_the_same_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        SettingsError, match="plugin mine: cannot be loaded: another plugin has this name"
    ):
        Plugins([module(monkeypatch, "mine", post_removed=lambda: None), "mine"])


def test_a_plugin_that_cannot_work_prevents_startup(
    monkeypatch: pytest.MonkeyPatch, media_root: Path
) -> None:
    def configure(settings: Settings) -> None:
        raise SettingsError("set MINE_TOKEN")

    monkeypatch.setenv("MEDIA_ROOT", str(media_root))
    settings = Settings(plugins=(module(monkeypatch, "mine", configure=configure),))
    with pytest.raises(SettingsError, match="plugin mine: set MINE_TOKEN"):
        Plugins.from_settings(settings)


def test_plugins_see_no_secrets(monkeypatch: pytest.MonkeyPatch, media_root: Path) -> None:
    seen: list[Settings] = []
    monkeypatch.setenv("MEDIA_ROOT", str(media_root))

    def configure(settings: Settings) -> None:
        seen.append(settings)

    secret = "whsec_" + "a" * 40
    given: dict[str, Any] = {
        "api_key": "s3cret",
        "webhook_secret": secret,
        "redis_url": "redis://:pass@127.0.0.1",
    }
    settings = Settings(
        **given,
        plugins=(module(monkeypatch, "mine", configure=configure),),
    )
    Plugins.from_settings(settings)
    assert seen[0].port == settings.port
    assert not any(seen[0].secrets)


def test_a_source_with_a_built_in_name_is_refused(
    monkeypatch: pytest.MonkeyPatch, media_root: Path
) -> None:
    monkeypatch.setenv("MEDIA_ROOT", str(media_root))
    name = module(monkeypatch, "mine", register_sources=lambda: [Source("page", lambda *_: {})])
    with pytest.raises(SettingsError, match="source page already"):
        Plugins([name]).sources(Settings())


def test_commands_are_added_to_argparse_subparsers() -> None:
    parser = argparse.ArgumentParser()
    Plugins([]).add_commands(parser.add_subparsers())
