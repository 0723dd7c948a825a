"""Which headers are trusted, and which gateways cause a warning."""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict
from structlog.testing import capture_logs

from scrapper.access.proxy import ProxySignIn, gateways
from scrapper.serving.request_path import path_warnings
from scrapper.settings import load_settings

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
"""
IPV6_ROUTES = (
    f"{'0' * 32} 00 {'0' * 32} 00 fd00{'0' * 27}1 00000400 00000001 00000000 00000003 eth0\n"
    f"fd00{'0' * 28} 40 {'0' * 32} 00 {'0' * 32} 00000100 00000001 00000000 00000001 eth0\n"
)


@pytest.fixture
def sign_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ProxySignIn:
    environment = {
        "MEDIA_ROOT": str(tmp_path),
        "UNIX_SOCKET": str(tmp_path / "socket"),
        "AUTH_PROXY_HEADER": "Remote-User",
        "AUTH_PROXIES": f"192.0.2.1, 2001:db8::1/128, {tmp_path}/socket",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return ProxySignIn(load_settings())


def request(
    peer: Any, *names: str, family: int = socket.AF_INET, headers: Mapping[str, str] | None = None
) -> Any:
    known = {"peername": peer, "socket": Mock(family=family)}
    transport = Mock(get_extra_info=lambda name, default=None: known.get(name, default))
    sent = [*(headers or {}).items(), *(("Remote-User", name) for name in names)]
    return make_mocked_request("GET", "/posts", headers=CIMultiDict(sent), transport=transport)


@pytest.mark.parametrize("name", ["anna", "Anna.B_c-d@example.org", "x" * 64])
@pytest.mark.parametrize(
    ("peer", "family"),
    [
        (("192.0.2.1", 1), socket.AF_INET),
        (("::ffff:192.0.2.1", 1, 0, 0), socket.AF_INET6),
        (("2001:db8::1", 1, 0, 0), socket.AF_INET6),
        ("", socket.AF_UNIX),
        (b"\0abstract", socket.AF_UNIX),
    ],
)
def test_a_listed_proxy_can_sign_users_in(
    sign_in: ProxySignIn, peer: Any, family: int, name: str
) -> None:
    assert sign_in.name_of(request(peer, name, family=family)) == f"proxy:{name}"


@pytest.mark.parametrize(
    "peer",
    [
        ("192.0.2.2", 1),
        ("2001:db8::2", 1, 0, 0),
        ("2001:db8::1%eth0", 1, 0, 0),
        ("unix", 1),
        ("", 1),
        (),
        None,
    ],
)
def test_no_other_peer_can_sign_users_in(sign_in: ProxySignIn, peer: Any) -> None:
    forwarded = {"X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.1"}
    assert sign_in.name_of(request(peer, "anna", headers=forwarded)) is None


@pytest.mark.parametrize(
    "names", [[""], ["anna", "anna"], ["anna", ""], ["a" * 65], ["a b"], ["a,b"], ["änna"], ["a:b"]]
)
def test_a_header_without_a_single_name_is_ignored(sign_in: ProxySignIn, names: list[str]) -> None:
    assert sign_in.name_of(request(("192.0.2.1", 1), *names)) is None


def test_each_cause_is_logged_once(sign_in: ProxySignIn) -> None:
    with capture_logs() as logs:
        for _ in range(3):
            for names in ([""], ["anna", "anna"]):
                sign_in.name_of(request(("192.0.2.1", 1), *names))
            sign_in.name_of(request(("192.0.2.9", 1), "anna"))
            sign_in.name_of(request(("192.0.2.9", 1)))
    assert [line["event"] for line in logs] == ["sign-in by proxy ignored"] * 3
    assert "anna" not in str(logs)


def test_without_the_setting_every_header_is_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MEDIA_ROOT", str(tmp_path))
    assert ProxySignIn(load_settings()).name_of(request(("127.0.0.1", 1), "anna")) is None


def test_gateways_come_from_the_routing_tables(tmp_path: Path) -> None:
    routes, ipv6_routes = tmp_path / "route", tmp_path / "ipv6_route"
    routes.write_text(ROUTES)
    ipv6_routes.write_text(IPV6_ROUTES)
    assert gateways(routes, ipv6_routes) == {"172.17.0.1", "fd00::1"}
    assert gateways(tmp_path / "none", tmp_path / "none") == set()


@pytest.mark.parametrize(("proxies", "warned"), [("172.17.0.1", True), ("172.17.0.2", False)])
def test_a_gateway_among_the_proxies_causes_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, proxies: str, warned: bool
) -> None:
    monkeypatch.setattr("scrapper.serving.request_path.gateways", lambda: {"172.17.0.1"})
    monkeypatch.setenv("MEDIA_ROOT", str(tmp_path))
    monkeypatch.setenv("AUTH_PROXY_HEADER", "Remote-User")
    monkeypatch.setenv("AUTH_PROXIES", proxies)
    warnings = list(path_warnings(load_settings(), needs_key=True))
    assert any("gateway of this machine" in warning for warning in warnings) == warned
