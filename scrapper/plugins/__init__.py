"""Plugins, whose functions the service calls when something happens.

``hooks`` declares the functions that a plugin can implement. ``loading`` finds plugins,
``follower`` notifies them of posts, jobs and ``conditions``, and ``ledger`` records these
notifications.
``s3``, ``audio`` and ``notify`` are plugins; ``outbox`` is part of ``notify``.
"""

from scrapper.plugins.hooks import hookimpl

__all__ = ["hookimpl"]
