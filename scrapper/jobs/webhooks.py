"""Webhooks: a job's JSON is sent to its client's address when the job ends."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv6Address, IPv6Network, ip_address
from socket import AF_UNSPEC, AI_NUMERICHOST, SOCK_STREAM, AddressFamily, getaddrinfo
from typing import Protocol
from urllib.parse import urlsplit

import structlog
from aiohttp import (
    ClientConnectionError,
    ClientError,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)
from aiohttp.abc import AbstractResolver, ResolveResult
from standardwebhooks import Webhook

from scrapper.settings import Network, Settings
from scrapper.tasks import end, in_background
from scrapper.telemetry.metrics import Metrics

__all__ = ["MOST_DELIVERIES", "Deliveries", "Delivery", "WebhookHosts", "delivering"]

log = structlog.get_logger(__name__)

MOST_DELIVERIES = 1000
"""How many deliveries are kept: a bound for webhooks that nobody ever takes."""

_MOST_ATTEMPTS = 30  # With these pauses, a day.

_FIRST_PAUSE = 1.0
_GROWTH = 3.0
_LONGEST_PAUSE = 3600.0
_AT_ONCE = 8
_SECONDS_BETWEEN_LOOKS = 0.5
_PATIENCE = ClientTimeout(total=15.0)
_GONE = 410
_NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Delivery:
    """A body that is to be sent to *url*; its ID stays the same however often it is sent."""

    id: str
    url: str
    body: bytes
    attempts: int = 0


class Deliveries(Protocol):
    """What is to be delivered, across restarts."""

    async def take_delivery(self) -> Delivery | None:
        """A delivery that is due, reserved for the caller; None if there is none."""
        ...

    async def finish(self, delivery: Delivery) -> None:
        """Forget a delivery."""
        ...

    async def postpone(self, delivery: Delivery, seconds: float) -> None:
        """Count an attempt, and let the delivery be due in so many *seconds*."""
        ...


class WebhookHosts:
    """The hosts that webhooks may go to: *names*, and the addresses of *networks*.

    A name may lead to public addresses, and to those of *networks*. So a name that somebody else
    controls cannot lead into the operator's own network.
    """

    def __init__(self, names: Sequence[str], networks: Sequence[Network]) -> None:
        self._names = frozenset(name.rstrip(".").lower() for name in names)
        self._networks = networks

    @classmethod
    def from_settings(cls, settings: Settings) -> "WebhookHosts":
        """The hosts of ``WEBHOOK_HOSTS``."""
        return cls(settings.webhook_names, settings.webhook_networks)

    def __bool__(self) -> bool:
        return bool(self._names or self._networks)

    def allow(self, url: str) -> bool:
        """Whether a webhook may go to *url*."""
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            return False
        if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc:
            return False
        try:
            ip_address(host)
        except ValueError:
            return host.rstrip(".").lower() in self._names
        return self._is_listed(host)

    def allow_address(self, address: str) -> bool:
        """Whether an allowed name may lead to *address*."""
        return self._is_listed(address) or _is_public(address)

    def _is_listed(self, address: str) -> bool:
        ip = ip_address(address.partition("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or ip
        return any(ip in network for network in self._networks)


class _Courier:
    """Sends what is due in *deliveries*, signed with *secret* as Standard Webhooks 1.0 has it."""

    def __init__(
        self, deliveries: Deliveries, hosts: WebhookHosts, secret: str, metrics: Metrics
    ) -> None:
        self._deliveries = deliveries
        self._hosts = hosts
        self._signer = Webhook(secret)
        self._metrics = metrics
        self._is_store_away = False

    async def run(self) -> None:
        """Deliver, until it is cancelled."""
        connector = TCPConnector(
            resolver=_Resolver(self._hosts), use_dns_cache=False, limit=_AT_ONCE
        )
        session = ClientSession(
            connector=connector, timeout=_PATIENCE, cookie_jar=DummyCookieJar(), trust_env=False
        )
        under_way: set[asyncio.Task[None]] = set()
        async with session:
            try:
                while True:
                    while len(under_way) < _AT_ONCE and (due := await self._take()):
                        task = asyncio.create_task(self._deliver(session, due))
                        under_way.add(task)
                        task.add_done_callback(under_way.discard)
                    await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
            finally:
                for task in under_way:
                    task.cancel()
                await asyncio.gather(*under_way, return_exceptions=True)

    async def _take(self) -> Delivery | None:
        try:
            due = await self._deliveries.take_delivery()
        # Whatever it is, the store may be away for a while. To say so twice a second would fill the
        # log.
        except Exception as error:  # noqa: BLE001
            if not self._is_store_away:
                log.warning("webhooks not looked up", cause=repr(error))
            self._is_store_away = True
            return None
        self._is_store_away = False
        return due

    async def _deliver(self, session: ClientSession, delivery: Delivery) -> None:
        try:
            outcome = await self._send(session, delivery)
        except Exception:
            log.exception("webhook not delivered", webhook=delivery.id)
            outcome = "failed"
        self._metrics.webhooks.labels(outcome).inc()
        try:
            if outcome == "failed":
                pause = min(_FIRST_PAUSE * _GROWTH**delivery.attempts, _LONGEST_PAUSE)
                # Many deliveries that failed together must not all come again together.
                await self._deliveries.postpone(delivery, pause * random.uniform(1.0, 1.2))  # noqa: S311
            else:
                await self._deliveries.finish(delivery)
        except Exception:
            # It is delivered once more after a restart, or by another worker.
            log.exception("webhook's outcome not stored", webhook=delivery.id)

    async def _send(self, session: ClientSession, delivery: Delivery) -> str:
        """Send it once; return ``delivered``, ``failed`` or ``given_up``."""
        cause = ""
        # The path of the URL may be a secret.
        known = {"webhook": delivery.id, "host": urlsplit(delivery.url).hostname}
        gone = not self._hosts.allow(delivery.url)
        if not gone:
            now = datetime.now(UTC)
            signature = self._signer.sign(delivery.id, now, delivery.body.decode())
            headers = {
                "Content-Type": "application/json",
                "User-Agent": "instagram-scrapper",
                "webhook-id": delivery.id,
                "webhook-timestamp": str(int(now.timestamp())),
                "webhook-signature": signature,
            }
            try:
                async with session.post(
                    delivery.url, data=delivery.body, headers=headers, allow_redirects=False
                ) as response:
                    if response.ok and response.status < 300:  # noqa: PLR2004
                        log.info("webhook delivered", **known)
                        return "delivered"
                    cause, gone = f"status {response.status}", response.status == _GONE
            except (ClientError, OSError, ValueError) as error:
                cause = type(error).__name__
        if gone or delivery.attempts + 1 >= _MOST_ATTEMPTS:
            log.error("webhook given up", cause=cause or "host not allowed", **known)
            return "given_up"
        log.warning("webhook not delivered", cause=cause, attempts=delivery.attempts + 1, **known)
        return "failed"


@asynccontextmanager
async def delivering(
    deliveries: Deliveries, settings: Settings, metrics: Metrics
) -> AsyncIterator[None]:
    """Deliver webhooks while the block runs, if *settings* allow any."""
    hosts = WebhookHosts.from_settings(settings)
    if not hosts:
        yield
        return
    secret = settings.webhook_secret.get_secret_value()
    delivering = in_background(_Courier(deliveries, hosts, secret, metrics).run(), "webhooks")
    try:
        yield
    finally:
        await end(delivering)


class _Resolver(AbstractResolver):
    """Resolves names to allowed addresses alone."""

    def __init__(self, hosts: WebhookHosts) -> None:
        self._hosts = hosts
        # A name server that hangs must not use up the threads that everything else needs.
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="webhook")

    async def resolve(
        self, host: str, port: int = 0, family: AddressFamily = AF_UNSPEC
    ) -> list[ResolveResult]:
        look_up = partial(getaddrinfo, host, port, family=family, type=SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        addresses = dict.fromkeys((kind, str(address[0])) for kind, _, _, _, address in found)
        allowed = [it for it in addresses if self._hosts.allow_address(it[1])]
        if not allowed:
            raise ClientConnectionError("the name leads to no allowed address")
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=kind, proto=0, flags=AI_NUMERICHOST
            )
            for kind, address in allowed
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False)


def _is_public(address: str) -> bool:
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        # These reach the IPv4 address that they hold.
        if ip in _NAT64:
            return _is_public(str(ip_address(int(ip) & 0xFFFFFFFF)))
        held = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if held:
            return _is_public(str(held))
    return ip.is_global and not ip.is_multicast
