"""Each thread's contexts: one without a session, and one with the session in use."""

import threading
from collections.abc import Mapping

from scrapper.instagram.context import Context, OnRequest
from scrapper.instagram.login import Session
from scrapper.instagram.pace import Pace
from scrapper.instagram.tokens import Tokens
from scrapper.instagram.transport import PooledTransport

__all__ = ["Contexts"]


class Contexts:
    """Makes contexts, and keeps them for the thread that uses them.

    *paces* has one for each login state: ``logged_out`` and ``session``. *doc_id* is the document
    of the logged-out web app's query.
    """

    def __init__(self, paces: Mapping[str, Pace], *, doc_id: str, on_request: OnRequest) -> None:
        self._paces = paces
        self._doc_id = doc_id
        self._on_request = on_request
        self._tokens = Tokens()
        self._local = threading.local()

    def logged_out(self, transport: PooledTransport) -> Context:
        """The calling thread's context without a session."""
        context: Context | None = getattr(self._local, "logged_out", None)
        if context is None:
            context = self._local.logged_out = self.make(None, transport)
        return context

    def with_session(self, session: Session, transport: PooledTransport) -> Context:
        """The calling thread's context for *session*."""
        context: Context | None = getattr(self._local, "with_session", None)
        if context is None or context.session != session:
            context = self._local.with_session = self.make(session, transport)
        return context

    def make(self, session: Session | None, transport: PooledTransport) -> Context:
        """A context that is kept for nobody."""
        return Context(
            transport,
            self._paces["session" if session else "logged_out"],
            self._tokens,
            doc_id=self._doc_id,
            session=session,
            on_request=self._on_request,
        )
