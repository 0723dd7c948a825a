"""Plugins: functions that the service calls when something happens, and two plugins of our own.

``hooks`` describes the functions that a plugin may have, ``loading`` finds plugins, ``following``
and ``follower`` tell them of posts and jobs, and ``ledger`` remembers what they were told. ``s3``
and ``audio`` are plugins.
"""

from scrapper.plugins.hooks import hookimpl

__all__ = ["hookimpl"]
