"""One question to Instagram: counted, logged, and its failure judged."""

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
    seen_in,
)

__all__ = ["asking"]

log = structlog.get_logger(__name__)

# If a source finds no post, the answer may say why.
_VAGUE = frozenset({Reason.CHANGED, Reason.NULL})


@contextmanager
def asking(source: str, context: Context) -> Iterator[None]:
    """Count and log how the request in the block ended.

    Raises:
        Refused: instead of any failure that is not a fault of ours.
    """
    try:
        yield
    except Exception as error:
        refused = _judge(error, context)
        if refused is None:
            raise
        context.report(source, refused.reason)
        log.info(
            "source refused",
            source=source,
            reason=refused.reason,
            cause=str(error),
            chain=" <- ".join(type(link).__name__ for link in chain_of(error)),
            **(_seen(error, context) if refused.reason is Reason.CHANGED else {}),
        )
        if refused is error:
            raise
        raise refused from error
    finally:
        context.transport.finish()
    context.report(source, "ok")


def _seen(error: Exception, context: Context) -> dict[str, Any]:
    """Details for the log."""
    response = context.transport.response
    seen = None if response is None else seen_in(response, context.secrets)
    return {"exc_info": error, "seen": seen}


def _judge(error: Exception, context: Context) -> Refused | None:
    """What *error* of a source means, or None where it is a fault of ours."""
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
