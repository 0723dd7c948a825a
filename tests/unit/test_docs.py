"""The docs cover every setting and error code, and mention only targets and links that exist."""

import re
from pathlib import Path

import pytest

from scrapper.errors import INTERNAL_ERROR, RESPONSES
from scrapper.handlers import refusals
from scrapper.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / name for name in ("README.md", "SECURITY.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs/settings.md").read_text()
    names = re.findall(r"^\|([^|]+)\|", text, re.MULTILINE)
    documented = {name for cell in names for name in re.findall(r"`([A-Z_]+)`", cell)}
    assert {name.upper() for name in Settings.model_fields} <= documented


def test_every_error_code_is_documented_with_its_status() -> None:
    text = (ROOT / "docs/api.md").read_text()
    documented = {
        (int(status), code)
        for status, cell in re.findall(r"^\| (\d{3}) \|([^|]+)\|", text, re.MULTILINE)
        for code in re.findall(r"`(\w+)`", cell)
    }
    responses = {(status, code) for status, code, _ in (*RESPONSES.values(), INTERNAL_ERROR)}
    errors = [getattr(refusals, name) for name in refusals.__all__]
    assert responses | {(error.status_code, error.code) for error in errors} <= documented


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_target_exists(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        if target.startswith("http"):
            continue
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            assert anchor in {
                re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in headings
            }


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_of_the_docs_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z-]+)", page.read_text()):
        assert re.search(rf"^([a-z-]+ )*{target}( [a-z-]+)*:", makefile, re.MULTILINE), target
