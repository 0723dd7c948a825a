"""`.env.example` lists every setting with its default, and Compose passes on all of them."""

import re
from pathlib import Path

import pytest
import yaml

from scrapper.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / ".env.example").read_text()
LINES = re.findall(r"^#([A-Z0-9_]+)=(.*)$", TEXT, re.MULTILINE)
DEFAULTS = dict(LINES)
REQUESTS_SETTINGS = {"HTTPS_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE"}
PLUGIN_SETTINGS = set(
    re.findall(r"^\| `([A-Z0-9_]+)` \|", (ROOT / "docs/plugins.md").read_text(), re.MULTILINE)
)
COMPOSE = (ROOT / "compose.yaml").read_text()
COMPOSE_SETTINGS = {*re.findall(r"\$\{([A-Z_]+)", COMPOSE), "DOMAIN", "UMASK"}


def test_the_example_has_every_setting_and_nothing_else() -> None:
    settings = {name.upper() for name in Settings.model_fields}
    assert set(DEFAULTS) == settings | REQUESTS_SETTINGS | COMPOSE_SETTINGS | PLUGIN_SETTINGS


def test_no_setting_is_listed_twice() -> None:
    assert len(DEFAULTS) == len(LINES)


def test_every_line_of_the_example_is_commented_out() -> None:
    assert re.findall(r"^(?!#).+", TEXT, re.MULTILINE) == []


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_each_line_has_the_default(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIA_ROOT", "/data/instaloader")
    default = getattr(Settings(), name)
    monkeypatch.setenv(name.upper(), DEFAULTS[name.upper()])
    assert getattr(Settings(), name) == default


def test_compose_passes_the_whole_file_to_the_service() -> None:
    service = yaml.safe_load(COMPOSE)["services"]["scrapper"]
    assert service["env_file"] == [{"path": ".env", "required": False}]
    # These take precedence over the file, so they must be empty unless the shell or .env sets them.
    for name, value in service["environment"].items():
        assert value == f"${{{name}:-}}"
