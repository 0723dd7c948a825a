"""The configurations of the log collectors Vector and Alloy.

No package registry offers the collectors, so both files are checked against the reference
documentation. The program in Vector's configuration is run by the compiler of Vector's language,
which is available as an npm package.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.process import Service
from tests.programs import PROXIES, output_of, program

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / "deploy/logs"
LABEL = "org.opencontainers.image.title=instagram-scrapper"
VECTOR_LANGUAGE = "@bpinternal/verel@0.2.0"
RUN = """
const vrl = require("@bpinternal/verel");
const [source, ...lines] = JSON.parse(require("fs").readFileSync("input.json"));
const { errors, warnings } = vrl.check(source);
if (errors.length + warnings.length) throw JSON.stringify([errors, warnings]);
console.log(JSON.stringify(lines.map((message) => vrl.execute(source, { message }).event)));
"""
# The required and the optional names in each part, from the references of Vector 0.50 and Alloy
# 1.11.
VECTOR: Mapping[str, tuple[set[str], set[str]]] = {
    "docker_logs": (set(), {"include_labels", "include_images", "docker_host"}),
    "remap": ({"inputs"}, {"source", "file", "drop_on_error"}),
    "loki": ({"inputs", "endpoint", "encoding", "labels"}, {"tenant_id", "path", "auth"}),
}
ALLOY: Mapping[str, tuple[set[str], set[str]]] = {
    "discovery.docker": ({"host"}, {"port", "refresh_interval", "filter"}),
    "filter": ({"name", "values"}, set()),
    "loki.source.docker": ({"host", "targets", "labels", "forward_to"}, {"relabel_rules"}),
    "loki.process": ({"forward_to"}, {"stage.json", "stage.labels", "stage.timestamp"}),
    "stage.json": ({"expressions"}, {"source", "drop_malformed"}),
    "stage.labels": (set(), {"values"}),
    "stage.timestamp": ({"source", "format"}, {"fallback_formats", "location"}),
    "loki.write": (set(), {"endpoint", "external_labels"}),
    "endpoint": ({"url"}, {"name", "tenant_id", "headers"}),
}
EXPORTS = {
    "discovery.docker": "targets",
    "loki.process": "receiver",
    "loki.write": "receiver",
}


@dataclass
class Block:
    """A block of Alloy's syntax, with its contents."""

    kind: str
    label: str
    arguments: dict[str, str] = field(default_factory=dict)
    blocks: list["Block"] = field(default_factory=list)

    def all(self) -> Iterator["Block"]:
        yield self
        for block in self.blocks:
            yield from block.all()


def alloy(text: str) -> Block:
    """Parse *text* into blocks; fail if it contains anything but blocks and arguments."""
    open_blocks = [Block("", "")]
    for line in (line.strip() for line in text.splitlines()):
        if not line or line.startswith("//"):
            continue
        if begun := re.fullmatch(r'([a-z_.]+)(?: "([a-z_]+)")? \{', line):
            open_blocks.append(Block(begun[1], begun[2] or ""))
            open_blocks[-2].blocks.append(open_blocks[-1])
        elif argument := re.fullmatch(r"([a-z_]+) += (.+)", line):
            open_blocks[-1].arguments[argument[1]] = argument[2]
        else:
            assert line == "}", line
            open_blocks.pop()
    [whole] = open_blocks
    return whole


def check(what: str, names: set[str], reference: Mapping[str, tuple[set[str], set[str]]]) -> None:
    needed, allowed = reference[what]
    assert needed <= names <= needed | allowed, what


def test_the_image_has_the_label() -> None:
    name, _, value = LABEL.partition("=")
    assert f'{name}="{value}"' in (ROOT / "Dockerfile").read_text()


def test_alloy_config_matches_the_reference() -> None:
    text = (LOGS / "config.alloy").read_text()
    whole = alloy(text)
    exported = set()
    for block in [inner for outer in whole.blocks for inner in outer.all()]:
        check(block.kind, {*block.arguments, *(inner.kind for inner in block.blocks)}, ALLOY)
        if block.kind in EXPORTS:
            exported.add(f"{block.kind}.{block.label}.{EXPORTS[block.kind]}")
    used = set(re.findall(r"(?:discovery|loki)\.[a-z_.]+\.(?:targets|receiver)", text))
    assert used == exported
    assert f'values = ["{LABEL}"]' in text


def vector() -> Any:
    return yaml.safe_load((LOGS / "vector.yaml").read_text())


def test_vector_config_matches_the_reference() -> None:
    parts = {name: part for kind in vector().values() for name, part in kind.items()}
    for part in parts.values():
        check(part["type"], set(part) - {"type"}, VECTOR)
        assert set(part.get("inputs", ())) <= set(parts)
    assert parts["docker"]["include_labels"] == [LABEL]


@pytest.fixture
def lines(tmp_path: Path) -> list[str]:
    """The log lines of a service, and a line that is not JSON."""
    with Service(tmp_path / "media", {"API_KEYS": "mistaken"}) as service:
        service.get("/posts")
        service.terminate()
        service.wait()
    return [*service.raw_log, "Segmentation fault"]


def test_vector_keeps_every_line(lines: list[str], tmp_path: Path) -> None:
    program("npm", packages="nodejs npm")
    install = ["npm", "install", "--no-fund", "--no-audit", VECTOR_LANGUAGE]
    output_of(install, folder=tmp_path, environment=PROXIES)
    source = vector()["transforms"]["parsed"]["source"]
    (tmp_path / "input.json").write_text(json.dumps([source, *lines]))
    (tmp_path / "run.js").write_text(RUN)
    *parsed, broken = json.loads(output_of(["node", "run.js"], folder=tmp_path))
    assert broken == {"message": "Segmentation fault", "level": "error"}
    for line, event in zip(map(json.loads, lines[:-1]), parsed, strict=True):
        # The times are equal, but Vector formats them differently.
        assert event.pop("timestamp").rstrip("Z")[:23] == line.pop("timestamp").rstrip("Z")[:23]
        assert event == line
