"""Clients are generated from the API's description without warnings, and work."""

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.instagram import StandIn
from tests.process import Service
from tests.programs import PROXIES, output_of, program

KEY = "a-key-of-the-clients"
HERE = Path(__file__).parent
BIN = Path(sys.executable).parent

DOCS = (HERE.parents[2] / "docs/clients.md").read_text()
POST = "https://www.instagram.com/p/photo-demo/"
# What the programs in the docs print.
PRINTED = [f"{POST} done", "https://example.com/ failed invalid_url", "invalid_url"]


@pytest.fixture
def service(instagram: StandIn, tmp_path: Path) -> Iterator[Service]:
    environment = {**instagram.environment, "API_KEY": KEY, "INSTAGRAM_MAX_QUERIES": "0"}
    with Service(tmp_path / "media", environment) as service:
        yield service


@pytest.fixture
def description(service: Service, tmp_path: Path) -> Path:
    path = tmp_path / "openapi.json"
    path.write_text(service.get("/openapi.json").text)
    return path


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed packages of package.json."""
    program("npm", packages="nodejs npm")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "tsconfig.json"):
        shutil.copy(HERE / name, folder)
    run(["npm", "install", "--no-package-lock", "--no-fund", "--no-audit"], folder, PROXIES)
    return folder


def run(
    command: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None
) -> str:
    path = os.pathsep.join([str(BIN), os.environ["PATH"]])
    ours = {"PATH": path, "NO_COLOR": "1", "REDOCLY_TELEMETRY": "off"}
    return output_of(command, folder=folder, environment={**ours, **(environment or {})})


def shown(language: str, service: Service, *, begins: str = "") -> str:
    """Return the block in *language* from the docs, with the address of *service*."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)
    [block] = [block for block in blocks if block.startswith(begins)]
    return str(block.replace("http://localhost:5633", service.url).replace("YOUR-KEY", KEY))


def generate(service: Service, folder: Path, *, installs: str) -> str:
    """Run the commands from the docs, except for the installation."""
    commands = shown("sh", service, begins=installs).partition("\n")[2]
    # The docs assume a service without a key.
    commands = commands.replace("curl ", f"curl -H X-API-Key:{KEY} ")
    return run(["/bin/sh", "-ec", commands], folder)


def check_output(text: str, folder: Path, instagram: StandIn) -> None:
    lines = text.replace(" None", "").replace(" null", "").splitlines()
    assert [line for line in lines if "[" not in line] == PRINTED
    [stored] = [line for line in lines if "[" in line]
    assert set(re.findall(r"\w+-demo", stored)) == {"reel-demo", "photo-demo"}
    assert [(folder / "reel-demo.mp4").read_bytes()] == instagram.bytes_of("reel-demo")


def test_the_python_client_in_the_docs_works(
    service: Service, instagram: StandIn, tmp_path: Path
) -> None:
    output = generate(service, tmp_path, installs="python -m pip")
    assert "warning" not in output.lower()
    (tmp_path / "use.py").write_text(shown("python", service))
    check_output(run([sys.executable, "use.py"], tmp_path), tmp_path, instagram)
    pytest.importorskip("mypy", reason="needs mypy: make lint")
    # mypy uses the generated code's types without checking the code.
    mypy = ["-m", "mypy", "--strict", "--follow-imports", "silent", "use.py"]
    run([sys.executable, *mypy], tmp_path)


def test_generated_clients_keep_parameter_names(service: Service, tmp_path: Path) -> None:
    generate(service, tmp_path, installs="python -m pip")
    described = service.get("/openapi.json").json()["paths"]
    for operation in (operation for path in described.values() for operation in path.values()):
        module = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation["operationId"]).lower()
        text = (tmp_path / f"scrapper_client/api/{operation['tags'][0]}/{module}.py").read_text()
        head = text.partition("\ndef sync_detailed(")[2].partition(") -> Response")[0]
        for parameter in operation.get("parameters", []):
            name = parameter["name"].lower().replace("-", "_")
            # The generator appends "_" to the name of a built-in function.
            assert f"    {'type_' if name == 'type' else name}:" in head


def test_the_typescript_client_in_the_docs_compiles_and_works(
    service: Service, instagram: StandIn, node: Path
) -> None:
    assert "warn" not in generate(service, node, installs="npm install").lower()
    (node / "use.ts").write_text(shown("ts", service))
    run([node / "node_modules/.bin/tsc", "--project", "tsconfig.json"], node)
    check_output(run(["node", "built/use.js"], node), node, instagram)


def test_redocly_finds_no_problems(description: Path, node: Path) -> None:
    output = run([node / "node_modules/.bin/redocly", "lint", description], node)
    assert "Your API description is valid" in output
    assert "warning" not in output.lower().replace("deprecation warning: node.js", "")
