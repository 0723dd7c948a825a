"""Reports and logs how a request to Instagram ended."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from scrapper.instagram.context import Context
from scrapper.instagram.verdict import (
    Reason,
    Refused,
    chain_of,
    reason_of_error,
    reason_of_response,
    summary_of,
)

__all__ = ["record_outcome"]

log = structlog.get_logger(__name__)

# If a source refuses for one of these reasons, the response may show a more precise reason.
_VAGUE = frozenset({Reason.CHANGED, Reason.NULL})


@contextmanager
def record_outcome(source: str, context: Context) -> Iterator[None]:
    """Report and log how the request in the block ended.

    Raises:
        Refused: the request failed. A bug in the service raises its own exception instead.
    """
    try:
        yield
    except Exception as error:
        refused = _refusal_of(error, context)
        if refused is None:
            raise
        context.report(source, refused.reason)
        log.info(
            "source refused",
            source=source,
            reason=refused.reason,
            cause=str(error),
            chain=" <- ".join(type(link).__name__ for link in chain_of(error)),
            **(_details(error, context) if refused.reason is Reason.CHANGED else {}),
        )
        if refused is error:
            raise
        raise refused from error
    finally:
        context.transport.finish()
    context.report(source, "ok")


def _details(error: Exception, context: Context) -> dict[str, Any]:
    """Return details for the log about an answer that the service does not understand."""
    response = context.transport.response
    seen = None if response is None else summary_of(response, context.secrets)
    return {"exc_info": error, "seen": seen}


def _refusal_of(error: Exception, context: Context) -> Refused | None:
    """Return what a source's *error* means, or None if it is a bug in the service."""
    refused = error if isinstance(error, Refused) else reason_of_error(error)
    if refused is None or refused.reason is Reason.PACE:
        return refused
    if isinstance(error, Refused):
        if refused.reason not in _VAGUE:
            return refused
    elif context.transport.is_late:
        return Refused(Reason.LATE)
    response = context.transport.response
    if response is not None:
        by_response = reason_of_response(response, with_session=context.is_logged_in)
        return by_response or refused
    return refused
