"""The .dockerignore excludes no file that the Dockerfile copies."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IGNORED = (ROOT / ".dockerignore").read_text().splitlines()
RULES = [line.strip() for line in IGNORED if line.strip() and not line.startswith("#")]


def sources() -> list[str]:
    """Return the paths in the build context that ``COPY`` copies."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copies = [line.split()[1:] for line in lines if line.startswith("COPY ")]
    return [name for copy in copies if "--from" not in copy[0] for name in copy[:-1]]


def survives(path: str, rules: list[str]) -> bool:
    """Whether *path* is in the build context.

    The last rule that matches the path, or one of its parents, decides.
    """
    kept = True
    for rule in rules:
        pattern = rule.removeprefix("!").strip("/")
        parents = [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]
        if any(_matches(parent, pattern) for parent in parents):
            kept = rule.startswith("!")
    return kept


def _matches(path: str, pattern: str) -> bool:
    # In Docker's rules, * does not match a slash, and ** does.
    expression = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
    return re.fullmatch(expression, path) is not None


def files() -> list[str]:
    """Return every file that the image needs."""
    found = []
    for source in sources():
        path = ROOT / source
        inside = path.rglob("*") if path.is_dir() else [path]
        found += [str(file.relative_to(ROOT)) for file in inside if file.is_file()]
    return [name for name in found if "__pycache__" not in name]


def test_every_source_of_a_copy_survives_the_dockerignore() -> None:
    assert len(files()) > 50
    assert [name for name in files() if not survives(name, RULES)] == []


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.startswith("!")])
def test_every_exception_rule_is_needed(rule: str) -> None:
    rest = [other for other in RULES if other != rule]
    assert any(not survives(name, rest) for name in files())


def test_files_the_image_does_not_need_stay_out() -> None:
    unneeded = ("tests/conftest.py", ".git/config", "README.md", "scrapper/__pycache__/app.pyc")
    assert [name for name in unneeded if survives(name, RULES)] == []
