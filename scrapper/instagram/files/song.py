"""Downloads a post's song, which the CDN stores separately from the post's own files."""

import time
from pathlib import Path

from scrapper.instagram.context import Contexts
from scrapper.instagram.documents import Documents
from scrapper.instagram.files.fetch import File, Target, Wanted, fetch_file
from scrapper.instagram.files.verdict import Outcome, Step, error_to_report, next_step
from scrapper.instagram.media import Candidate
from scrapper.instagram.pace import Pace
from scrapper.instagram.transport import CDN_HOSTS, STALLED_SECONDS, TransportPool, tls_context
from scrapper.library.post import Progress

__all__ = ["fetch_song"]


def fetch_song(
    url: str, folder: Path, name: str, *, seconds: float, max_bytes: int, keep_free: int
) -> File:
    """Download the audio at *url* to *folder* as *name*, unless it is larger than *max_bytes*.

    A transient failure is retried once. The two attempts together may take at most *seconds*. The
    download leaves at least *keep_free* bytes of the disk free.

    Raises:
        ScrapeError: the file cannot be downloaded, or is not an audio file.
        OSError: the file cannot be written.
    """
    wanted = Wanted("audio", Candidate(url, None, None), name, with_sound=True)
    target = Target(folder, Progress(), max_bytes, keep_free)
    pool = TransportPool(CDN_HOSTS, tls_context(), patience=STALLED_SECONDS, retry=False)
    # A download makes no query, so it needs neither a pace nor documents.
    paces = {"logged_out": Pace(0, 1.0)}
    contexts = Contexts(paces, documents=Documents(), on_request=lambda *_: None)
    try:
        with pool.borrow(time.monotonic() + seconds) as transport:
            context = contexts.logged_out(transport)
            fetched = fetch_file(context, target, wanted)
            if next_step(fetched.outcome, {Step.RETRY}) is Step.RETRY:
                fetched = fetch_file(context, target, wanted)
    finally:
        pool.close()
    if fetched.outcome is not Outcome.WHOLE and fetched.file is not None:
        fetched.file.path.unlink()
    if fetched.outcome is not Outcome.WHOLE or fetched.file is None:
        raise error_to_report([fetched.outcome])
    return fetched.file
