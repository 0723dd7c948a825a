"""What the pace learned, shared by all replicas."""

import threading
import time
from typing import Any

import structlog
from redis import Redis
from redis.exceptions import RedisError

from scrapper.instagram.pace import Learned
from scrapper.replicas.client import PREFIX

__all__ = ["RedisPaceMemory"]

log = structlog.get_logger(__name__)

_KEY = f"{PREFIX}pace"
_SECONDS_BETWEEN_LOOKS = 5.0


class RedisPaceMemory:
    """A :class:`~scrapper.instagram.pace.PaceMemory` in a hash of Redis; blocking.

    It reads Redis every five seconds at most. While Redis does not answer, it goes by what this
    process knows.
    """

    def __init__(self, redis: Redis, login_state: str) -> None:
        self._redis = redis
        self._login_state = login_state
        self._lock = threading.Lock()
        self._learned: Learned | None = None
        self._look_at = 0.0

    def load(self) -> Learned | None:
        with self._lock:
            if time.monotonic() >= self._look_at:
                self._look_at = time.monotonic() + _SECONDS_BETWEEN_LOOKS
                self._look()
            return self._learned

    def store(self, learned: Learned) -> None:
        with self._lock:
            self._learned = learned
            try:
                text = f"{learned.allowed} {learned.at}"
                self._redis.hset(_KEY, self._login_state, text)
            except RedisError as error:
                log.warning("pace not shared", cause=str(error))

    def _look(self) -> None:
        try:
            stored: Any = self._redis.hget(_KEY, self._login_state)
            if stored is not None:
                allowed, at = stored.split()
                shared = Learned(int(allowed), float(at))
                # Ours may be newer: Redis was gone when it was learned.
                if self._learned is None or shared.at > self._learned.at:
                    self._learned = shared
        except (RedisError, ValueError) as error:
            log.warning("shared pace not read", cause=repr(error))
