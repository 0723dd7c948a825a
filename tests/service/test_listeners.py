"""The Unix socket and TLS, with stale sockets, and renewed or unusable certificates."""

import os
import socket
import ssl
import stat
import subprocess
import sys
from contextlib import AbstractContextManager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from scrapper.errors import SettingsError
from scrapper.serving.listeners import unix_listener
from scrapper.settings import load_settings
from tests.instagram import StandIn
from tests.process import PATIENCE_SECONDS, Service, wait_for

CA = trustme.CA()
FREQUENT_POLLS = {"scrapper.serving.listeners._POLL_SECONDS": 0.05}


def get(path: Path, **headers: str) -> tuple[int, str | None]:
    """Send a request to the Unix socket at *path*; return status and remaining rate limit."""
    connection = HTTPConnection("localhost", timeout=PATIENCE_SECONDS)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET", "/posts", headers=names)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, response.headers["RateLimit-Remaining"]


def opened(
    monkeypatch: pytest.MonkeyPatch, **settings: str
) -> AbstractContextManager[socket.socket]:
    """Return a context manager for the Unix socket of a service with *settings*."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    checked = load_settings()
    assert checked.unix_socket
    return unix_listener(checked.unix_socket, checked.unix_socket_mode)


def refusal(media_root: Path, **settings: str) -> str:
    """Return what the service prints when it fails to start."""
    environment = {**os.environ, "MEDIA_ROOT": str(media_root), "HOST": "127.0.0.1", "PORT": "0"}
    command = [sys.executable, "-m", "scrapper"]
    ended = subprocess.run(
        command, env={**environment, **settings}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2, ended.stderr
    return ended.stderr


def issue(folder: Path, *names: str) -> dict[str, str]:
    """Issue a certificate in *folder*; return the settings for it."""
    issued = CA.issue_cert(*(names or ("127.0.0.1",)))
    paths = {"TLS_CERT_FILE": folder / "cert.pem", "TLS_KEY_FILE": folder / "key.pem"}
    for name, blob in zip(paths, (issued.cert_chain_pems[0], issued.private_key_pem), strict=True):
        new = folder / "new"
        blob.write_to_path(new)
        # Replaced by a rename, as certbot does.
        new.rename(paths[name])
    return {name: str(path) for name, path in paths.items()}


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    CA.cert_pem.write_to_path(path)
    return path


@pytest.mark.parametrize(("mode", "expected"), [("", 0o660), ("600", 0o600), ("0666", 0o666)])
def test_the_socket_has_the_configured_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, expected: int
) -> None:
    path = tmp_path / "scrapper.sock"
    with opened(monkeypatch, UNIX_SOCKET=str(path), UNIX_SOCKET_MODE=mode):
        assert stat.S_IMODE(path.stat().st_mode) == expected
    assert not path.exists()


def test_the_socket_is_removed_at_shutdown(tmp_path: Path, media_root: Path) -> None:
    path = tmp_path / "scrapper.sock"
    with Service(media_root, {"UNIX_SOCKET": str(path), "UNIX_SOCKET_MODE": "600"}) as service:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert get(path)[0] == service.get("/posts").status_code == 200
        service.terminate()
        assert service.wait() == 0
        assert not path.exists()


def test_the_socket_of_a_killed_process_is_replaced(tmp_path: Path, media_root: Path) -> None:
    path = tmp_path / "scrapper.sock"
    for _ in range(2):
        with Service(media_root, {"UNIX_SOCKET": str(path)}) as service:
            assert get(path)[0] == 200
            service.kill()
        assert path.exists()


def test_other_files_at_the_path_are_left_alone(
    tmp_path: Path, media_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scrapper.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        assert "another process is listening there" in refusal(media_root, UNIX_SOCKET=str(path))
    path.unlink()
    path.write_text("notes")
    with pytest.raises(SettingsError, match="not a socket"):
        opened(monkeypatch, UNIX_SOCKET=str(path)).__enter__()
    assert path.read_text() == "notes"


def test_a_socket_that_cannot_be_created_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in (tmp_path / "nowhere/socket", tmp_path / ("x" * 100)):
        with pytest.raises(SettingsError, match="UNIX_SOCKET: "):
            opened(monkeypatch, UNIX_SOCKET=str(wrong)).__enter__()
    with pytest.raises(SettingsError, match="UNIX_SOCKET_MODE: "):
        opened(monkeypatch, UNIX_SOCKET=str(tmp_path / "socket"), UNIX_SOCKET_MODE="rw")


def test_the_socket_of_a_successor_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "scrapper.sock"
    with unix_listener(path, 0o600):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(path))
    assert path.exists()


def test_a_proxy_on_the_socket_identifies_users_and_clients(
    tmp_path: Path, media_root: Path
) -> None:
    path = tmp_path / "scrapper.sock"
    settings = {
        "UNIX_SOCKET": str(path),
        "AUTH_PROXY_HEADER": "Remote-User",
        "AUTH_PROXIES": str(path),
        "TRUSTED_PROXIES": "unix",
        "API_KEY": "a-key-of-the-tests",
        "RATE_LIMIT_MAX_REQUESTS": "1",
    }
    with Service(media_root, settings) as service:
        assert get(path, Remote_User="anna")[0] == 200
        assert get(path)[0] == 401
        service.headers["Remote-User"] = "anna"
        assert service.get("/posts").status_code == 401
        key = {"X_API_Key": "a-key-of-the-tests"}
        for client in ("198.51.100.1", "198.51.100.2"):
            assert get(path, X_Forwarded_For=client, **key) == (200, "9")
        expected = {"unix", "198.51.100.1", "198.51.100.2"}
        wait_for(lambda: {line.get("client") for line in service.log} >= expected)


def certificate_of(service: Service, authority: Path) -> bytes:
    """Return the certificate of a new connection."""
    address = urlsplit(service.url)
    context = ssl.create_default_context(cafile=str(authority))
    connection = socket.create_connection((address.hostname, address.port), PATIENCE_SECONDS)
    with context.wrap_socket(connection, server_hostname="127.0.0.1") as secured:
        return secured.getpeercert(binary_form=True) or b""


def test_the_service_reloads_its_certificate(
    tmp_path: Path, media_root: Path, authority: Path
) -> None:
    settings = issue(tmp_path)
    with Service(media_root, settings, authority=authority, constants=FREQUENT_POLLS) as service:
        # One connection stays open throughout.
        assert service.get("/posts").json()["posts"] == []
        first = certificate_of(service, authority)
        issue(tmp_path)
        wait_for(lambda: certificate_of(service, authority) != first)
        second = certificate_of(service, authority)
        # A poll between the renames of a renewal may also find the files unusable.
        unusable = partial(service.logged, "certificate unusable: keeping the old one")
        before = unusable()
        (tmp_path / "new").write_text("no key")
        (tmp_path / "new").rename(settings["TLS_KEY_FILE"])
        wait_for(lambda: unusable() == before + 1)
        Path(settings["TLS_CERT_FILE"]).unlink()
        wait_for(lambda: unusable() == before + 2)
        assert certificate_of(service, authority) == second
        issue(tmp_path)
        wait_for(lambda: certificate_of(service, authority) != second)
        assert service.get("/posts").status_code == 200
    assert "no key" not in "".join(service.raw_log)


def test_files_and_secure_cookies_are_sent_over_https(
    instagram: StandIn, tmp_path: Path, media_root: Path, authority: Path
) -> None:
    settings = {**issue(tmp_path), **instagram.environment, "API_KEY": "a-key-of-the-tests"}
    with Service(media_root, settings, authority=authority) as service:
        service.headers["X-API-Key"] = "a-key-of-the-tests"
        scraped = service.scrape("https://www.instagram.com/p/carousel-1/")
        assert scraped.status_code == 200, scraped.text
        files = [service.get(item["url"]).content for item in scraped.json()["media"]]
        assert files == instagram.bytes_of("carousel-1")
        assert "Secure" in service.post("/session", {}).headers["Set-Cookie"]


def test_a_renewal_drops_no_connection(tmp_path: Path, media_root: Path, authority: Path) -> None:
    settings = issue(tmp_path)
    with Service(media_root, settings, authority=authority, constants=FREQUENT_POLLS) as service:
        address = urlsplit(service.url)
        context = ssl.create_default_context(cafile=str(authority))
        plain = socket.create_connection((address.hostname, address.port), PATIENCE_SECONDS)
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
            request = f"GET /health HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode()
            for _ in range(2):
                connection.sendall(request)
                assert connection.recv(65536).endswith(b"OK")
                renewed = service.logged("certificate renewed")
                issue(tmp_path)
                wait_for(lambda done=renewed: service.logged("certificate renewed") > done)  # type: ignore[misc]


def test_failed_handshakes_free_their_connections(
    tmp_path: Path, media_root: Path, authority: Path
) -> None:
    settings = {**issue(tmp_path), "MAX_CONNECTIONS": "4", "CLIENT_TIMEOUT_SECONDS": "1"}
    with Service(media_root, settings, authority=authority) as service:
        address = urlsplit(service.url)
        for sent in (b"GET / HTTP/1.1\r\n\r\n", b"", b"\x16\x03\x01\x02\x00"):
            for _ in range(4):
                with socket.create_connection((address.hostname, address.port)) as connection:
                    connection.sendall(sent)
        wait_for(lambda: "http_connections 1.0" in service.get("/metrics").text)
        held = [socket.create_connection((address.hostname, address.port)) for _ in range(4)]
        assert certificate_of(service, authority)
        for connection in held:
            connection.close()
        wait_for(lambda: service.get("/health").status_code == 200)
    assert not [line for line in service.log if line["level"] == "error"]


@pytest.mark.parametrize(
    "wrong", ["missing", "text", "mismatched", "swapped", "encrypted", "alone"]
)
def test_unusable_certificate_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    settings = issue(tmp_path)
    certificate, key = settings.values()
    if wrong == "missing":
        Path(key).unlink()
    elif wrong == "text":
        Path(certificate).write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    elif wrong == "mismatched":
        CA.issue_cert("127.0.0.1").private_key_pem.write_to_path(key)
    elif wrong == "swapped":
        settings = {"TLS_CERT_FILE": key, "TLS_KEY_FILE": certificate}
    elif wrong == "encrypted":
        command = ["openssl", "rsa", "-aes256", "-passout", "pass:secret", "-in", key, "-out", key]
        if "BEGIN EC" in Path(key).read_text():
            command[1] = "ec"
        subprocess.run(command, check=True, capture_output=True)
    else:
        del settings["TLS_KEY_FILE"]
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="TLS_") as refused:
        load_settings()
    assert len(str(refused.value).splitlines()) == 1


def test_all_wrong_settings_are_reported_together(tmp_path: Path, media_root: Path) -> None:
    settings = issue(tmp_path)
    Path(settings["TLS_KEY_FILE"]).unlink()
    heading, *lines = refusal(media_root, **settings, LOG_LEVEL="loud").splitlines()
    assert heading == "Invalid settings:"
    assert [line.partition("_")[0] for line in lines] == ["LOG", "TLS"]
