"""Shares the web app's query documents among replicas."""

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
_POLL_SECONDS = 5.0


class RedisDocuments:
    """A :class:`~scrapper.instagram.documents.DocumentMemory` in a Redis hash.

    The methods block. Redis is read at most every five seconds. While Redis does not answer, each
    process uses the documents that it already has.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._local = DocumentFile()
        self._lock = threading.Lock()
        self._next_read_at = 0.0

    def load(self) -> Mapping[str, Document]:
        with self._lock:
            if time.monotonic() >= self._next_read_at:
                self._next_read_at = time.monotonic() + _POLL_SECONDS
                self._read()
        return self._local.load()

    def claim(self, source: str) -> bool:
        try:
            return bool(self._redis.set(f"{_KEY}:{source}", 1, nx=True, ex=DAY_SECONDS))
        except RedisError:
            return self._local.claim(source)

    def store(self, source: str, document: Document) -> None:
        self._local.store(source, document)
        try:
            self._redis.hset(_KEY, source, json.dumps(asdict(document)))
        except RedisError as error:
            log.warning("query documents not shared", cause=str(error))

    def _read(self) -> None:
        try:
            stored: Any = self._redis.hgetall(_KEY)
            for source, text in stored.items():
                self._local.store(source.decode(), document_of(json.loads(text)))
        except (RedisError, *UNREADABLE) as error:
            log.warning("shared query documents not read", cause=type(error).__name__)
