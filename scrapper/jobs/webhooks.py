"""Sends a job's JSON to its webhook URL when the job ends.

The stores keep the deliveries. :class:`Receivers` decides which delivery is sent next, and which
deliveries are given up. A receiver that never answers does not delay the others.
"""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address
from socket import AF_UNSPEC, AI_NUMERICHOST, SOCK_STREAM, AddressFamily, getaddrinfo
from typing import Literal, Protocol
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

from scrapper.jobs.addresses import is_public
from scrapper.settings import Network, Settings
from scrapper.tasks import end, in_background
from scrapper.telemetry.log_throttle import LogThrottle
from scrapper.telemetry.metrics import Metrics

__all__ = [
    "LEASE_SECONDS",
    "Deliveries",
    "Delivery",
    "Outcome",
    "Receivers",
    "Waiting",
    "WebhookHosts",
    "delivering",
]

log = structlog.get_logger(__name__)

LEASE_SECONDS = 60
"""Seconds after which a taken delivery is due again, unless it has been finished or postponed."""

_CONCURRENCY = 8
_MAX_WAITING = 1000
# One receiver may have at most a quarter of the deliveries under way, and a quarter of those
# waiting.
_CONCURRENCY_PER_RECEIVER = _CONCURRENCY // 4
_MAX_WAITING_PER_RECEIVER = _MAX_WAITING // 4
_MAX_ATTEMPTS = 30  # With the pauses below, 30 attempts take about a day.
_DAY = 24 * 60 * 60

_FIRST_PAUSE = 1.0
_GROWTH = 3.0
_LONGEST_PAUSE = 3600.0
_POLL_SECONDS = 0.5
_TIMEOUT = ClientTimeout(total=15.0)
_GONE = 410
_TOO_MANY_REQUESTS = 429

Outcome = Literal["delivered", "given_up"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A body to send to ``url``. All attempts share the same ``id``.

    The body reports that a job has ended. ``job`` is the job's ID, and ``noted_at`` is the Unix
    time at which the end was recorded.
    """

    id: str
    url: str
    body: bytes
    attempts: int = 0
    job: str = ""
    noted_at: float = 0.0

    @property
    def receiver(self) -> str:
        """The URL's host, normalised, without the port."""
        host = (urlsplit(self.url).hostname or "").rstrip(".")
        try:
            address = ip_address(host)
        except ValueError:
            return host
        return str(getattr(address, "ipv4_mapped", None) or address)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A summary of a stored delivery; ``age`` is in seconds."""

    id: str
    job: str
    receiver: str
    age: float
    due: bool


class Deliveries(Protocol):
    """The stored webhook deliveries."""

    async def waiting(self) -> Sequence[Waiting]:
        """Return all deliveries. A delivery that was taken is not due until its lease ends."""
        ...

    async def take(self, id_: str) -> Delivery | None:
        """Lease a due delivery for :data:`LEASE_SECONDS`. Return None if it is gone or taken."""
        ...

    async def finish(self, id_: str, outcome: Outcome) -> None:
        """Remove a delivery, and record its *outcome* in its job."""
        ...

    async def postpone(self, id_: str, seconds: float) -> None:
        """Count an attempt, and make the delivery due again in *seconds* seconds."""
        ...


class Receivers:
    """Decides which delivery is sent next, and which ones are given up. A receiver is a host.

    At most eight deliveries are under way at once, with no more than two per receiver, or one if
    the receiver is failing. The pause before the next delivery to a failing receiver grows with
    each consecutive failure, up to an hour. At most 250 deliveries may wait for one receiver, and
    1,000 in all. Beyond that, the oldest deliveries to the receiver with the most deliveries are
    given up. While a receiver is failing, its deliveries are given up once they are a day old.
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._under_way: dict[str, str] = {}
        self._failures: Counter[str] = Counter()
        self._resumes: dict[str, float] = {}

    def next(self, waiting: Iterable[Waiting]) -> Waiting | None:
        """Return the oldest due delivery to the receiver with the fewest deliveries under way.

        Return None if no delivery may be sent now.
        """
        busy = Counter(self._under_way.values())
        if busy.total() >= _CONCURRENCY:
            return None
        free = (one for one in waiting if one.due and self._may_begin(one, busy[one.receiver]))
        return min(free, key=lambda one: (busy[one.receiver], -one.age), default=None)

    def begin(self, one: Waiting) -> None:
        """Record that a delivery is under way."""
        self._under_way[one.id] = one.receiver

    def end(self, id_: str, *, failed: bool) -> None:
        """Record that a delivery is no longer under way, and whether its receiver *failed*."""
        receiver = self._under_way.pop(id_)
        if failed:
            self._resumes[receiver] = self._now() + pause_after(self._failures[receiver])
            self._failures[receiver] += 1
        else:
            self._failures.pop(receiver, None)
            self._resumes.pop(receiver, None)

    def to_give_up(self, waiting: Collection[Waiting]) -> Iterator[tuple[Waiting, str]]:
        """Yield the deliveries to give up, each with the reason.

        The failure counts of receivers that have no deliveries left are dropped.
        """
        queues: dict[str, list[Waiting]] = defaultdict(list)
        for one in sorted(waiting, key=lambda one: one.age):
            if one.id not in self._under_way:
                queues[one.receiver].append(one)
        for receiver in set(self._failures) - set(queues) - set(self._under_way.values()):
            del self._failures[receiver], self._resumes[receiver]
        left = sum(map(len, queues.values()))
        for receiver, queue in queues.items():
            while self._failures[receiver] and queue and queue[-1].age > _DAY:
                left -= 1
                yield queue.pop(), "older than a day"
            while len(queue) > _MAX_WAITING_PER_RECEIVER:
                left -= 1
                yield queue.pop(), "too many deliveries are waiting for the receiver"
        for _ in range(left - _MAX_WAITING):
            yield max(queues.values(), key=len).pop(), "too many deliveries are waiting"

    def _may_begin(self, one: Waiting, busy: int) -> bool:
        share = 1 if self._failures[one.receiver] else _CONCURRENCY_PER_RECEIVER
        is_paused = self._resumes.get(one.receiver, 0.0) > self._now()
        return busy < share and one.id not in self._under_way and not is_paused


def pause_after(failures: int) -> float:
    """Return the seconds to wait after a failure.

    *failures* is the number of consecutive failures before this one.
    """
    # The exponent is bounded because 3**1000 is too large for a float. 3**8 s is over an hour.
    return min(_FIRST_PAUSE * _GROWTH ** min(failures, 8), _LONGEST_PAUSE)


class WebhookHosts:
    """The hosts that webhooks may be sent to: *names*, and the addresses in *networks*.

    A name may resolve only to public addresses and to those in *networks*. Otherwise, whoever
    controls a name's DNS could point the name at a host in the operator's network.
    """

    def __init__(self, names: Sequence[str], networks: Sequence[Network]) -> None:
        self._names = frozenset(name.rstrip(".").lower() for name in names)
        self._networks = networks

    @classmethod
    def from_settings(cls, settings: Settings) -> "WebhookHosts":
        """Return the hosts in ``WEBHOOK_HOSTS``."""
        return cls(settings.webhook_names, settings.webhook_networks)

    def __bool__(self) -> bool:
        return bool(self._names or self._networks)

    def allow(self, url: str) -> bool:
        """Return whether a webhook may be sent to *url*."""
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
        """Return whether an allowed name may resolve to *address*."""
        return self._is_listed(address) or is_public(address)

    def _is_listed(self, address: str) -> bool:
        ip = ip_address(address.partition("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or ip
        return any(ip in network for network in self._networks)


@dataclass(frozen=True, slots=True)
class _Result:
    outcome: Outcome | Literal["failed"]
    receiver_failed: bool


class _Sender:
    """Sends the *deliveries* that are due, signed with *secret* (Standard Webhooks 1.0)."""

    def __init__(
        self, deliveries: Deliveries, hosts: WebhookHosts, secret: str, metrics: Metrics
    ) -> None:
        self._deliveries = deliveries
        self._hosts = hosts
        self._signer = Webhook(secret)
        self._metrics = metrics
        self._receivers = Receivers()
        self._store_unreachable = LogThrottle()

    async def run(self) -> None:
        """Deliver until the task is cancelled."""
        connector = TCPConnector(
            resolver=_Resolver(self._hosts), use_dns_cache=False, limit=_CONCURRENCY
        )
        session = ClientSession(
            connector=connector, timeout=_TIMEOUT, cookie_jar=DummyCookieJar(), trust_env=False
        )
        under_way: set[asyncio.Task[None]] = set()
        async with session:
            try:
                while True:
                    for one in await self._take_next():
                        task = asyncio.create_task(self._deliver(session, one))
                        under_way.add(task)
                        task.add_done_callback(under_way.discard)
                    if under_way:
                        await asyncio.wait(
                            under_way,
                            timeout=_POLL_SECONDS,
                            return_when=asyncio.FIRST_COMPLETED,
                        )
                    else:
                        await asyncio.sleep(_POLL_SECONDS)
            finally:
                for task in under_way:
                    task.cancel()
                await asyncio.gather(*under_way, return_exceptions=True)

    async def _take_next(self) -> Sequence[Delivery]:
        """Give up on deliveries where necessary, then lease and return those to send now."""
        taken = []
        try:
            waiting = list(await self._deliveries.waiting())
            for one, cause in self._receivers.to_give_up(waiting):
                log.error("webhook given up", cause=cause, **_log_fields(one))
                self._metrics.webhooks.labels("given_up").inc()
                await self._deliveries.finish(one.id, "given_up")
                waiting.remove(one)
            while next_one := self._receivers.next(waiting):
                waiting.remove(next_one)
                delivery = await self._deliveries.take(next_one.id)
                if delivery is not None:
                    self._receivers.begin(next_one)
                    taken.append(delivery)
        except Exception as error:  # noqa: BLE001
            # The store may be unreachable for a while. An entry for each poll would flood the log.
            if self._store_unreachable.is_due():
                log.warning("webhook deliveries not read", cause=repr(error))
        else:
            self._store_unreachable.reset()
        return taken

    async def _deliver(self, session: ClientSession, delivery: Delivery) -> None:
        result = _Result("failed", receiver_failed=True)
        try:
            result = await self._send(session, delivery)
        except Exception:
            log.exception("webhook not delivered", webhook=delivery.id)
        finally:
            self._receivers.end(delivery.id, failed=result.receiver_failed)
        self._metrics.webhooks.labels(result.outcome).inc()
        try:
            if result.outcome == "failed":
                # Deliveries that failed at the same time must not all be retried at the same time.
                pause = pause_after(delivery.attempts) * random.uniform(1.0, 1.2)  # noqa: S311
                await self._deliveries.postpone(delivery.id, pause)
            else:
                await self._deliveries.finish(delivery.id, result.outcome)
        except Exception:
            # The webhook will be delivered again, after a restart or by another worker.
            log.exception("webhook outcome not stored", webhook=delivery.id)

    async def _send(self, session: ClientSession, delivery: Delivery) -> "_Result":
        cause, receiver_failed = "", False
        fields = _log_fields(delivery)
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
                        log.info("webhook delivered", **fields)
                        return _Result("delivered", receiver_failed=False)
                    cause, gone = f"status {response.status}", response.status == _GONE
                    # Other error statuses concern only this URL, not all URLs of the host.
                    receiver_failed = (
                        response.status >= 500 or response.status == _TOO_MANY_REQUESTS  # noqa: PLR2004
                    )
            except (ClientError, OSError, ValueError) as error:
                cause, receiver_failed = type(error).__name__, True
        if gone or delivery.attempts + 1 >= _MAX_ATTEMPTS:
            log.error("webhook given up", cause=cause or "host not allowed", **fields)
            return _Result("given_up", receiver_failed=receiver_failed)
        log.warning("webhook not delivered", cause=cause, attempts=delivery.attempts + 1, **fields)
        return _Result("failed", receiver_failed=receiver_failed)


def _log_fields(delivery: Delivery | Waiting) -> dict[str, str]:
    # Only the host of the URL is logged, because its path may be a secret.
    return {"webhook": delivery.id, "job": delivery.job, "receiver": delivery.receiver}


@asynccontextmanager
async def delivering(
    deliveries: Deliveries, settings: Settings, metrics: Metrics
) -> AsyncIterator[None]:
    """Deliver webhooks during the block, if *settings* allow any."""
    hosts = WebhookHosts.from_settings(settings)
    if not hosts:
        yield
        return
    secret = settings.webhook_secret.get_secret_value()
    delivering = in_background(_Sender(deliveries, hosts, secret, metrics).run(), "webhooks")
    try:
        yield
    finally:
        await end(delivering)


class _Resolver(AbstractResolver):
    """Resolves names to allowed addresses only."""

    def __init__(self, hosts: WebhookHosts) -> None:
        self._hosts = hosts
        # A name server that hangs must not use up the threads of the default executor.
        self._threads = ThreadPoolExecutor(_CONCURRENCY, thread_name_prefix="webhook")

    async def resolve(
        self, host: str, port: int = 0, family: AddressFamily = AF_UNSPEC
    ) -> list[ResolveResult]:
        look_up = partial(getaddrinfo, host, port, family=family, type=SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        addresses = dict.fromkeys((kind, str(address[0])) for kind, _, _, _, address in found)
        allowed = [it for it in addresses if self._hosts.allow_address(it[1])]
        if not allowed:
            raise ClientConnectionError("the name does not resolve to an allowed address")
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=kind, proto=0, flags=AI_NUMERICHOST
            )
            for kind, address in allowed
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False)
