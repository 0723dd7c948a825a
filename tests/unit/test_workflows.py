"""The workflows call only make targets that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
TARGETS = set(
    re.findall(r"^([a-z-]+(?: [a-z-]+)*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_make_target_of_a_workflow_exists(workflow: Path) -> None:
    called = set(re.findall(r"\bmake ([a-z-]+)", workflow.read_text()))
    known = {target for targets in TARGETS for target in targets.split()}
    assert called
    assert called <= known


def test_ci_runs_every_check() -> None:
    script = (ROOT / ".ci/run").read_text()
    targets = " ".join(re.findall(r"^make (.+)", script, re.MULTILINE))
    assert set(targets.split()) >= {"lint", "test", "demo", "wheels", "image", "arm", "smoke"}
