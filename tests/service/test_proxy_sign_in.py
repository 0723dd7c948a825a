"""Sign-in by a proxy over real connections: who is admitted, and who is refused."""

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.process import PATIENCE_SECONDS, Service, wait_for

PROXY, STRANGER = "127.0.0.1", "127.0.0.2"
SETTINGS = {
    "AUTH_PROXY_HEADER": "Remote-User",
    "AUTH_PROXIES": f"{PROXY}/32",
    "TRUSTED_PROXIES": "127.0.0.0/8",
    "API_KEY": "a-key-of-the-tests",
    "RATE_LIMIT_MAX_REQUESTS": "50",
}
NAMES = ("Remote-User", "remote-user", "REMOTE-USER", "rEmOtE-uSeR")
# Headers that a client may add in an attempt to impersonate the proxy.
OTHER_HEADERS = (
    "",
    f"X-Forwarded-For: {PROXY}\r\n",
    f"X-Forwarded-For: {PROXY}, {PROXY}\r\nX-Real-IP: {PROXY}\r\n",
    f"Forwarded: for={PROXY}\r\n",
    "Sec-Fetch-Site: same-origin\r\n",
)
VALUES = ("anna", "proxy:anna", "default", "anna\r\nRemote-User: anna")
# Sent by the proxy itself, but without a single valid name, or for another site's page.
WRONG = (
    "Remote-User:",
    "Remote-User: ",
    "Remote-User: anna\r\nRemote-User: anna",
    "Remote-User: anna\r\nremote-user: bob",
    "Remote-User: anna\r\nREMOTE-USER:",
    "Remote-User:\r\nRemote-User: anna",
    "Remote-User: anna, bob",
    "Remote-User: anna bob",
    "Remote-User: anna\tbob",
    "Remote-User: anna\r\n bob",
    "Remote-User:\r\n anna",
    "Remote-User : anna",
    "Remote_User: anna",
    "X-Remote-User: anna",
    "Remote-Users: anna",
    "Remote-User: ann\xe4",
    "Remote-User: " + "a" * 65,
    "Remote-User: proxy:anna",
    "Remote-User: anna;admin",
    "Remote-User: anna%00",
    "Remote-User: anna\r\nOrigin: https://evil.example",
    "Remote-User: anna\r\nOrigin: null",
    "Remote-User: anna\r\nReferer: http://evil.example/",
    "Remote-User: anna\r\nReferer: http://[",
    "Remote-User: anna\r\nSec-Fetch-Site: cross-site",
    "Remote-User: anna\r\nSec-Fetch-Site: same-site",
    "Remote-User: anna\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site",
    "Remote-User: anna\r\nOrigin: http://{host}\r\nOrigin: https://evil.example",
    "Remote-User: anna\r\nReferer: http://{host}/\r\nReferer: https://evil.example/",
    "Remote-User: anna\r\nSec-Fetch-Site: none\r\nSec-Purpose: prefetch",
)
FORGED = [
    *(
        (STRANGER, f"{others}{name}: {value}")
        for name in NAMES
        for others in OTHER_HEADERS
        for value in VALUES
    ),
    *((PROXY, head) for head in WRONG),
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("media"), SETTINGS) as running:
        yield running


def ask(service: Service, source: str, head: str, path: str = "/posts") -> tuple[int, str]:
    """Send a request from the address *source*; return the response's status and head."""
    address = urlsplit(service.url)
    with socket.create_connection(
        (address.hostname, address.port), PATIENCE_SECONDS, (source, 0)
    ) as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n"
        request += head.replace("{host}", address.netloc)
        connection.sendall(f"{request}\r\n\r\n".encode("latin-1"))
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    head, _, _ = received.decode().partition("\r\n\r\n")
    return int(head.split()[1]), head


def test_no_forged_header_is_accepted(service: Service) -> None:
    assert len(FORGED) >= 100
    for number, (source, head) in enumerate(FORGED):
        # Each request has a different client, so that no bucket is empty.
        client = f"X-Forwarded-For: 198.51.100.{number}\r\n"
        status, _ = ask(service, source, client + head)
        assert status in (400, 401), (source, head)
    wait_for(lambda: service.logged("sign-in by proxy ignored") == 3)


def test_a_signed_in_user_has_a_name_and_a_bucket(service: Service) -> None:
    for name in NAMES:
        assert ask(service, PROXY, f"{name}: berta")[0] == 200
    _, head = ask(service, PROXY, "Remote-User: carl")
    assert "RateLimit-Limit: 500\r\nRateLimit-Remaining: 499" in head
    # A request from the page itself, and one from the user, such as a typed address.
    for site in ("same-origin", "none"):
        assert ask(service, PROXY, f"Remote-User: carl\r\nSec-Fetch-Site: {site}")[0] == 200
    wait_for(lambda: any(line.get("key") == "proxy:carl" for line in service.log))


def test_a_key_still_works(service: Service) -> None:
    assert ask(service, STRANGER, "X-API-Key: a-key-of-the-tests")[0] == 200
    assert ask(service, STRANGER, "")[0] == 401


def test_the_setting_alone_requires_sign_in(tmp_path: Path) -> None:
    settings = {"AUTH_PROXY_HEADER": "Remote-User", "AUTH_PROXIES": PROXY}
    with Service(tmp_path, settings) as running:
        assert ask(running, STRANGER, "")[0] == 401
        assert ask(running, PROXY, "")[0] == 401
        assert ask(running, PROXY, "Remote-User: anna")[0] == 200
        assert ask(running, PROXY, "Remote-User: anna", "/login")[0] == 200
