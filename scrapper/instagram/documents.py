"""The web app's query documents, and the lookup of replacements for retired documents.

Instead of the text of a query, the web app sends the ID of a document that Instagram stores. A page
of instagram.com links to about fifty scripts. For each query, one script contains the document ID,
and another contains the names of the relay flags (as captured in autumn 2026).
"""

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import structlog

from scrapper.errors import ScrapeError
from scrapper.instagram.sources.queries import QUERIES, Query, flag_variables
from scrapper.instagram.verdict import reason_of_error
from scrapper.library.state_file import StateFile

__all__ = [
    "DAY_SECONDS",
    "Document",
    "DocumentFile",
    "DocumentMemory",
    "Documents",
    "document_in",
    "document_of",
    "scripts_of",
]

log = structlog.get_logger(__name__)

DAY_SECONDS = 24 * 60 * 60
_MAX_BYTES = 20_000_000
_SCRIPTS_AT_ONCE = 3
_MAX_SCRIPTS = 200
_MAX_FLAGS = 30
_MAX_WAIT_SECONDS = 3.0
_FRESH_SECONDS = 10 * 60
_SECONDS_BETWEEN_CLAIMS = 60 * 60
_SCRIPT = re.compile(
    rb"""https:(?:\\?/){2}static\.cdninstagram\.com(\\?/rsrc\.php(?:\\?/[^"'\\/\s<>?#]{1,300})+\.js)\b"""
)
_FLAG = re.compile(rb'"([A-Za-z0-9_]{1,100})\.relayprovider"')


@dataclass(frozen=True, slots=True)
class Document:
    """The result of a lookup: the ID of a query's document, and its relay flags.

    ``doc_id`` is empty if no document was found. ``instead_of`` is the built-in ID that ``doc_id``
    replaces; once a release has a different built-in ID, the result no longer applies.
    ``looked_at`` is the unix time of the last lookup.
    """

    doc_id: str = ""
    flags: tuple[str, ...] = ()
    instead_of: str = ""
    looked_at: float = 0.0


class DocumentMemory(Protocol):
    """Stores lookup results by source, for later processes or other replicas.

    No method raises.
    """

    def load(self) -> Mapping[str, Document]:
        """Return all stored results, including those of other processes."""
        ...

    def claim(self, source: str) -> bool:
        """Claim the lookup for *source*; return False if a lookup began within the last day."""
        ...

    def store(self, source: str, document: Document) -> None:
        """Store the result of a lookup."""
        ...


class DocumentFile:
    """A :class:`DocumentMemory` in the JSON file at *path*, or in memory if *path* is None.

    *check* raises if the file's folder was replaced.
    """

    def __init__(
        self, path: Path | None = None, *, check: Callable[[], None] = lambda: None
    ) -> None:
        self._file = StateFile(path, check=check) if path else None
        self._lock = threading.Lock()
        self._known = (self._file and self._file.read(_parse_documents)) or {}

    def load(self) -> Mapping[str, Document]:
        return self._known

    def claim(self, source: str) -> bool:
        with self._lock:
            known, now = self._known.get(source, Document()), time.time()
            if 0 <= now - known.looked_at < DAY_SECONDS:
                return False
            self._put(source, replace(known, looked_at=now))
            return True

    def store(self, source: str, document: Document) -> None:
        with self._lock:
            self._put(source, document)

    def _put(self, source: str, document: Document) -> None:
        self._known = {**self._known, source: document}
        try:
            if self._file:
                self._file.write({name: asdict(one) for name, one in self._known.items()})
        except (OSError, ScrapeError) as error:
            log.warning("query documents not stored", cause=repr(error))


class Documents:
    """The documents in use; thread-safe.

    *override* is the document ID from the settings for the query of ``logged_out_api``. If it is
    set and differs from the built-in ID, it is never replaced. After each lookup, *report* is
    called with ``lookup_SOURCE`` and the outcome.
    """

    def __init__(
        self,
        *,
        override: str = "",
        memory: DocumentMemory | None = None,
        report: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        built_in = QUERIES["logged_out_api"].doc_id
        self._override = {} if override in ("", built_in) else {"logged_out_api": override}
        self._memory = memory or DocumentFile()
        self._report = report
        self._lock = threading.Lock()
        self._not_before: dict[str, float] = {}
        self._scripts: Sequence[str] = ()
        self._stale_at = 0.0

    def current(self, source: str) -> tuple[str, dict[str, Any]]:
        """Return two values: the source's document ID, and its relay flags as query variables."""
        query, found = QUERIES[source], self.found().get(source)
        doc_id, flags = (found.doc_id, found.flags) if found else (query.doc_id, query.flags)
        return self._override.get(source, doc_id), flag_variables(flags)

    def found(self) -> dict[str, Document]:
        """Return the lookup results that are in use, by source."""
        return {
            source: document
            for source, document in self._memory.load().items()
            if source in QUERIES.keys() - self._override.keys()
            and document.doc_id
            and document.instead_of == QUERIES[source].doc_id
        }

    def record_page(self, html: bytes) -> None:
        """Record the URLs of a page's scripts, for the next lookup."""
        now = time.monotonic()
        if now >= self._stale_at and (scripts := scripts_of(html)):
            self._scripts, self._stale_at = scripts, now + _FRESH_SECONDS

    def look_up(
        self,
        sources: Iterable[str],
        get: Callable[[str], Iterator[bytes]],
        begin: Callable[[], object],
        *,
        seconds: float,
    ) -> set[str]:
        """Look up replacements for the retired documents of *sources*.

        Return the sources for which a new document was found in time. After *seconds* (at most
        three), the lookup continues in the background. Nothing is looked up within a day of the
        last lookup, or before :meth:`record_page` has been called. *get* downloads a script in
        chunks. *begin* is called first, and raises a ScrapeError if the pace allows no lookup now.
        """
        with self._lock:
            now, scripts = time.monotonic(), self._scripts
            wanted = [
                source
                for source in sources
                if source in QUERIES.keys() - self._override.keys()
                and now >= self._not_before.get(source, 0.0)
            ]
            if not scripts or not wanted:
                return set()
            try:
                begin()
            except ScrapeError:
                return set()
            for source in wanted:
                self._not_before[source] = now + _SECONDS_BETWEEN_CLAIMS
        claimed = [source for source in wanted if self._memory.claim(source)]
        lookup = _Lookup({source: QUERIES[source] for source in claimed}, scripts, get)
        replaced: set[str] = set()

        def run() -> None:
            for source, document in lookup.run().items():
                outcome = "ok" if document.doc_id else "missing"
                if document.doc_id == self.current(source)[0]:
                    outcome = "same"
                elif document.doc_id:
                    self._memory.store(source, document)
                    replaced.add(source)
                self._report(f"lookup_{source}", outcome)
                log.warning("document lookup", source=source, outcome=outcome, **asdict(document))

        if claimed:
            thread = threading.Thread(target=copy_context().run, args=(run,), daemon=True)
            thread.start()
            thread.join(max(0.0, min(seconds, _MAX_WAIT_SECONDS)))
        return set(replaced)


class _Lookup:
    """A lookup that reads scripts until all document IDs and relay flags are found.

    It reads three scripts at a time, and at most 20 MB in total.
    """

    def __init__(
        self,
        queries: Mapping[str, Query],
        scripts: Sequence[str],
        get: Callable[[str], Iterator[bytes]],
    ) -> None:
        self._queries = queries
        self._scripts = scripts
        self._get = get
        self._lock = threading.Lock()
        self._bytes_left = _MAX_BYTES
        self._ids: dict[str, str] = {}
        self._flags: dict[str, tuple[str, ...]] = {}

    def run(self) -> dict[str, Document]:
        with ThreadPoolExecutor(_SCRIPTS_AT_ONCE, thread_name_prefix="script") as threads:
            list(threads.map(self._read, self._scripts))
        return {
            source: Document(
                self._ids.get(source, ""),
                self._flags.get(source, query.flags),
                query.doc_id,
                time.time(),
            )
            for source, query in self._queries.items()
        }

    def _read(self, url: str) -> None:
        chunks = []
        if len(self._ids) + len(self._flags) == 2 * len(self._queries):
            return
        try:
            for chunk in self._get(url) if self._bytes_left > 0 else ():
                with self._lock:
                    self._bytes_left -= len(chunk)
                if self._bytes_left < 0:
                    return
                chunks.append(chunk)
        except Exception as error:
            if reason_of_error(error) is None:
                raise
            log.info("script not read", cause=type(error).__name__)
            return
        script = b"".join(chunks)
        for source, query in self._queries.items():
            doc_id, flags = document_in(script, query.name)
            if doc_id:
                self._ids.setdefault(source, doc_id)
            if flags is not None:
                self._flags.setdefault(source, flags)


def scripts_of(html: bytes) -> tuple[str, ...]:
    """Return the URLs of a page's scripts, if they are on Instagram's script host."""
    paths = dict.fromkeys(found[1] for found in _SCRIPT.finditer(html))
    texts = (path.replace(b"\\", b"").decode("ascii", "replace") for path in paths)
    return tuple(f"https://static.cdninstagram.com{text}" for text in texts)[:_MAX_SCRIPTS]


def document_in(script: bytes, name: str) -> tuple[str, tuple[str, ...] | None]:
    """Return two values: the document ID and the relay flags of the query *name* in *script*.

    A missing ID is returned as ``""``, and missing flags are returned as None.
    """
    quoted = re.escape(name).encode()
    operation = rb'__d\("%s_instagramRelayOperation",\[[^\]]{0,500}\],.{0,500}?' % quoted
    found = re.search(operation + rb'\bexports\s?=\s?"([0-9]{5,30})"', script, re.DOTALL)
    listed = re.search(rb'__d\("%s(?:\$Parameters|\.graphql)",\[([^\]]{0,9000})\]' % quoted, script)
    flags = None
    if listed:
        names = _FLAG.findall(listed[1])[:_MAX_FLAGS]
        flags = tuple(dict.fromkeys(name.decode() for name in names))
    return found[1].decode() if found else "", flags


def _parse_documents(data: Any) -> dict[str, Document]:
    return {source: document_of(entry) for source, entry in data.items()}


def document_of(entry: Any) -> Document:
    """Read a document from JSON data.

    Raises:
        AttributeError, LookupError, TypeError, ValueError: *entry* is not a document.
    """
    flags = [flag for flag in entry["flags"] if re.fullmatch(r"[A-Za-z0-9_]{1,100}", flag)]
    document = Document(
        entry["doc_id"], tuple(flags[:_MAX_FLAGS]), entry["instead_of"], float(entry["looked_at"])
    )
    for text in (document.doc_id, document.instead_of):
        if not re.fullmatch("(?:[0-9]{5,30})?", text):
            raise ValueError("not a document ID")
    return document
