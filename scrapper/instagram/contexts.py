"""Each transport's contexts: one without a session, and one with the session in use."""

from collections.abc import Mapping
from weakref import WeakKeyDictionary

from scrapper.instagram.context import Context, OnRequest
from scrapper.instagram.documents import Documents
from scrapper.instagram.login.session import Session
from scrapper.instagram.pace import Pace
from scrapper.instagram.tokens import Tokens
from scrapper.instagram.transport import PooledTransport

__all__ = ["Contexts"]


class Contexts:
    """Makes contexts, and keeps them for the transport that they use.

    *paces* has one for each login state: ``logged_out`` and ``session``. *documents* are
    those of the web app's queries.
    """

    def __init__(
        self, paces: Mapping[str, Pace], *, documents: Documents, on_request: OnRequest
    ) -> None:
        self._paces = paces
        self._documents = documents
        self._on_request = on_request
        self.tokens = Tokens()
        self._logged_out: WeakKeyDictionary[PooledTransport, Context] = WeakKeyDictionary()
        self._with_session: WeakKeyDictionary[PooledTransport, Context] = WeakKeyDictionary()

    def logged_out(self, transport: PooledTransport) -> Context:
        """The context over *transport* without a session."""
        context = self._logged_out.get(transport)
        if context is None:
            context = self._logged_out[transport] = self.make(None, transport)
        return context

    def with_session(self, session: Session, transport: PooledTransport) -> Context:
        """The context over *transport* for *session*."""
        context = self._with_session.get(transport)
        if context is None or context.session != session:
            context = self._with_session[transport] = self.make(session, transport)
        return context

    def make(self, session: Session | None, transport: PooledTransport) -> Context:
        """A context that is kept for nobody."""
        return Context(
            transport,
            self._paces["session" if session else "logged_out"],
            self.tokens,
            documents=self._documents,
            session=session,
            on_request=self._on_request,
        )
