"""Plugins, whose functions the service calls when something happens.

``hooks`` describes the functions that a plugin may have, ``loading`` finds plugins, ``follower``
notifies them of posts, jobs and ``conditions``, and ``ledger`` records what they were notified of.
``s3``, ``audio`` and ``notify`` are plugins; ``outbox`` is part of ``notify``.
"""

from scrapper.plugins.hooks import hookimpl

__all__ = ["hookimpl"]
