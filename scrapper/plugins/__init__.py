"""Plugins: functions that the service calls when something happens, and two plugins of our own.

``hooks`` describes the functions that a plugin may have, ``loading`` finds plugins, ``follower``
notifies them of posts and jobs, and ``ledger`` remembers what they know. ``s3`` and ``audio`` are
plugins.
"""

from scrapper.plugins.hooks import hookimpl

__all__ = ["hookimpl"]
