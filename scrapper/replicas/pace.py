"""Shares the pace among replicas: the learned limit, and the count of an account's requests."""

import secrets
import threading
import time
from typing import Any

import structlog
from redis import Redis
from redis.exceptions import RedisError

from scrapper.instagram.pace import Kind, Learned, PaceMemory, Window
from scrapper.replicas.client import PREFIX

__all__ = ["RedisPaceMemory", "RedisWindow"]

log = structlog.get_logger(__name__)

_KEY = f"{PREFIX}pace"
_POLL_SECONDS = 5.0
# Times are in microseconds on Redis's clock. The script returns the time to wait, or -1 if the
# request may be sent now.
_TAKE_SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local most, window = tonumber(ARGV[1]), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - window))
local sent = redis.call('ZCARD', KEYS[1])
if sent >= most then
    local first = redis.call('ZRANGE', KEYS[1], sent - most, sent - most, 'WITHSCORES')
    return first[2] + window - now
end
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[3])
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', window / 1000 + 1))
return -1
"""


class RedisPaceMemory(PaceMemory):
    """The learned limit of a login state, in a Redis hash.

    The methods block. Redis is read at most every five seconds. While Redis does not answer, each
    process uses the limit that it already has.
    """

    def __init__(self, redis: Redis, login_state: str) -> None:
        self._redis = redis
        self._login_state = login_state
        self._lock = threading.Lock()
        self._next_read_at = 0.0

    def load(self) -> Learned | None:
        with self._lock:
            if time.monotonic() >= self._next_read_at:
                self._next_read_at = time.monotonic() + _POLL_SECONDS
                self._read()
            return self._learned

    def store(self, learned: Learned) -> None:
        with self._lock:
            self._learned = learned
            try:
                text = f"{learned.allowed} {learned.at}"
                self._redis.hset(_KEY, self._login_state, text)
            except RedisError as error:
                log.warning("pace not shared", cause=str(error))

    def _read(self) -> None:
        try:
            stored: Any = self._redis.hget(_KEY, self._login_state)
            if stored is not None:
                allowed, at = stored.split()
                shared = Learned(int(allowed), float(at))
                # A limit that this process learned while Redis was down may be newer than the
                # shared one.
                if self._learned is None or shared.at > self._learned.at:
                    self._learned = shared
        except (RedisError, ValueError) as error:
            log.warning("shared pace not read", cause=repr(error))


class RedisWindow(Window):
    """The count of an account's requests in Redis, for all replicas.

    While Redis does not answer, each process counts its own requests.
    """

    def __init__(self, redis: Redis, login_state: str) -> None:
        super().__init__()
        self._take = redis.register_script(_TAKE_SCRIPT)
        self._key = f"{PREFIX}window:{login_state}"

    def take(self, kind: Kind, limit: int, seconds: float) -> float | None:
        arguments: list[str | int] = [limit, int(seconds * 1_000_000), secrets.token_hex(8)]
        try:
            wait: Any = self._take(keys=[f"{self._key}:{kind}"], args=arguments)
        except RedisError as error:
            log.warning("pace not shared", cause=str(error))
            return super().take(kind, limit, seconds)
        if wait >= 0:
            return float(wait) / 1_000_000
        # Also count locally, in case Redis stops answering.
        super().take(kind, limit, seconds)
        return None
