"""The examples in docs/plugins.md are valid plugins, and cover every hook."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from scrapper.plugins.loading import Plugins

pytestmark = pytest.mark.blocks
ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/plugins.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("code", EXAMPLES)
def test_each_example_is_a_valid_plugin(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("example")
    exec(code, module.__dict__)  # noqa: S102 - our own docs
    monkeypatch.setitem(sys.modules, "example", module)
    [plugin] = Plugins(["example"])
    assert plugin.hooks


def test_there_is_an_example_of_each_hook() -> None:
    hooks = (ROOT / "scrapper/plugins/hooks.py").read_text()
    names = set(re.findall(r"^@_hook\ndef (\w+)", hooks, re.MULTILINE))
    shown = set(re.findall(r"^(?:async )?def (\w+)", "\n".join(EXAMPLES), re.MULTILINE))
    assert names
    assert names - shown == set()
