"""`.env.example` has every setting with its default, and Compose hands all of them on."""

import re
from pathlib import Path

import pytest
import yaml

from scrapper.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / ".env.example").read_text()
FOUND = re.findall(r"^#([A-Z0-9_]+)=(.*)$", TEXT, re.MULTILINE)
LINES = dict(FOUND)
OF_REQUESTS = {"HTTPS_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE"}
OF_PLUGINS = set(
    re.findall(r"^\| `([A-Z0-9_]+)` \|", (ROOT / "docs/plugins.md").read_text(), re.MULTILINE)
)
COMPOSE = (ROOT / "compose.yaml").read_text()
OF_COMPOSE = {*re.findall(r"\$\{([A-Z_]+)", COMPOSE), "DOMAIN", "UMASK"}


def test_the_example_has_every_setting_and_nothing_else() -> None:
    settings = {name.upper() for name in Settings.model_fields}
    assert set(LINES) == settings | OF_REQUESTS | OF_COMPOSE | OF_PLUGINS


def test_no_setting_stands_twice() -> None:
    assert len(LINES) == len(FOUND)


def test_the_unchanged_example_changes_nothing() -> None:
    assert re.findall(r"^(?!#).+", TEXT, re.MULTILINE) == []


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_each_line_has_the_default(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIA_ROOT", "/data/instaloader")
    default = getattr(Settings(), name)
    monkeypatch.setenv(name.upper(), LINES[name.upper()])
    assert getattr(Settings(), name) == default


def test_compose_hands_the_whole_file_on() -> None:
    service = yaml.safe_load(COMPOSE)["services"]["scrapper"]
    assert service["env_file"] == [{"path": ".env", "required": False}]
    # These win over the file.
    for name, value in service["environment"].items():
        assert value == f"${{{name}:-}}"
