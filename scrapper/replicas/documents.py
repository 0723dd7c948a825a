"""The documents of the web app's queries that look-ups found, shared by all replicas."""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import structlog
from redis import Redis
from redis.exceptions import RedisError

from scrapper.instagram.documents import DAY_SECONDS, Document, DocumentFile, document_of
from scrapper.library.state_file import UNREADABLE
from scrapper.replicas.client import PREFIX

__all__ = ["RedisDocuments"]

log = structlog.get_logger(__name__)

_KEY = f"{PREFIX}documents"
_SECONDS_BETWEEN_LOOKS = 5.0


class RedisDocuments:
    """A :class:`~scrapper.instagram.documents.DocumentMemory` in a hash of Redis; blocking.

    Redis is read every five seconds at most. While Redis does not answer, each process goes by what
    it knows itself.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._own = DocumentFile()
        self._lock = threading.Lock()
        self._look_at = 0.0

    def load(self) -> Mapping[str, Document]:
        with self._lock:
            if time.monotonic() >= self._look_at:
                self._look_at = time.monotonic() + _SECONDS_BETWEEN_LOOKS
                self._look()
        return self._own.load()

    def claim(self, source: str) -> bool:
        try:
            return bool(self._redis.set(f"{_KEY}:{source}", 1, nx=True, ex=DAY_SECONDS))
        except RedisError:
            return self._own.claim(source)

    def store(self, source: str, document: Document) -> None:
        self._own.store(source, document)
        try:
            self._redis.hset(_KEY, source, json.dumps(asdict(document)))
        except RedisError as error:
            log.warning("query documents not shared", cause=str(error))

    def _look(self) -> None:
        try:
            stored: Any = self._redis.hgetall(_KEY)
            for source, text in stored.items():
                self._own.store(source.decode(), document_of(json.loads(text)))
        except (RedisError, *UNREADABLE) as error:
            log.warning("shared query documents not read", cause=type(error).__name__)
