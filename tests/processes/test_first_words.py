"""What users see when they first start the service, or configure it wrongly."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.process import Process, Service, wait_for

OPEN = "open to anyone who can reach the port"


def refused(*arguments: str, **environment: str) -> str:
    """Run Python in the repository, check that it exits with code 2, and return its errors."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("arguments", [[], ["worker"], ["fetch", "https://example.com/"]])
def test_without_packages_the_message_names_make_run(arguments: list[str]) -> None:
    # -S hides all installed packages.
    assert "make run" in refused("-S", "-m", "scrapper", *arguments)


@pytest.mark.parametrize(
    ("settings", "warnings"),
    [
        ({"HOST": "0.0.0.0"}, 1),
        ({"HOST": "127.0.0.1"}, 0),
        ({"HOST": "::1"}, 0),
        ({"HOST": "0.0.0.0", "API_KEY": "a-key-that-is-long-enough"}, 0),
    ],
)
def test_an_open_service_on_a_network_warns_once(
    tmp_path: Path, settings: dict[str, str], warnings: int
) -> None:
    process = Process(("scrapper",), tmp_path, {**settings, "PORT": "0"})
    with process:
        wait_for(lambda: process.logged("listening") == 1)
        process.terminate()
        assert process.wait() == 0
    assert process.logged(OPEN) == warnings


def test_a_terminal_shows_the_address_of_the_page(tmp_path: Path) -> None:
    ours, terminal = os.openpty()
    environment = {"HOST": "0.0.0.0", "PORT": "0", "MEDIA_ROOT": str(tmp_path)}
    command = [sys.executable, "-m", "scrapper"]
    with subprocess.Popen(
        command,
        cwd=Path(__file__).parents[2],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
    ) as service:
        shown = os.read(ours, 1000).decode()
        service.terminate()
    found = re.fullmatch(r"The page: http://localhost:[0-9]+/\r\n", shown)
    assert found, shown
    for end in (ours, terminal):
        os.close(end)


def test_a_misspelled_setting_causes_a_warning(tmp_path: Path) -> None:
    with Service(tmp_path, {"API_KEYS": "s3cret-value", "MAX_MEDIA_AGE_DAY": "3"}) as service:
        service.terminate()
        service.wait()
    lines = [line for line in service.log if line["event"].startswith("unknown variable")]
    assert [(line["name"], line["nearest"]) for line in lines] == [
        ("API_KEYS", "API_KEY"),
        ("MAX_MEDIA_AGE_DAY", "MAX_MEDIA_AGE_DAYS"),
    ]
    assert "s3cret-value" not in "".join(service.raw_log)


def test_other_commands_print_misspelled_settings(tmp_path: Path) -> None:
    environment = {"MEDIA_ROOT": str(tmp_path), "MEDIA_ROOTS": "/srv"}
    message = refused("-m", "scrapper", "plugins", **environment)
    assert message.startswith("MEDIA_ROOTS is not a setting: did you mean MEDIA_ROOT?\n")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, {"other.example", "ALLOWED_HOSTS", "API_KEY"}),
        ({"API_KEY": "a-long-enough-key", "ALLOWED_HOSTS": "a.example"}, {"ALLOWED_HOSTS"}),
    ],
)
def test_a_browser_shows_why_a_host_is_refused(
    tmp_path: Path, settings: dict[str, str], named: set[str]
) -> None:
    with Service(tmp_path, settings) as service:
        headers = {"Host": "other.example", "Accept": "text/html,*/*;q=0.8"}
        page = requests.get(service.url, headers=headers, timeout=60)
    assert (page.status_code, page.headers["Content-Type"]) == (421, "text/html; charset=utf-8")
    assert {name for name in named if name not in page.text} == set()


@pytest.mark.parametrize("command", [[], ["login", "--forget"]])
@pytest.mark.parametrize("folder", ["/proc/posts", "/dev/null/posts", "/sys/posts"])
def test_a_bad_folder_is_reported_without_a_traceback(folder: str, command: list[str]) -> None:
    settings = {"MEDIA_ROOT": folder, "PORT": "0", "HOST": "127.0.0.1"}
    assert "MEDIA_ROOT: /" in refused("-m", "scrapper", *command, **settings)
