"""Plugins: functions that the service calls when something happens, and three plugins of our own.

``hooks`` describes the functions that a plugin may have, ``loading`` finds plugins, ``follower``
notifies them of posts, jobs and ``conditions``, and ``ledger`` records what they got. ``s3``,
``audio`` and ``notify`` are plugins; ``outbox`` is part of ``notify``.
"""

from scrapper.plugins.hooks import hookimpl

__all__ = ["hookimpl"]
