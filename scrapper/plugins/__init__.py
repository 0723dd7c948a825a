"""Plugins: code of others that hangs on to what happens here, and two of our own.

``hooks`` says what a plugin can hang on to, ``loading`` finds plugins, ``following`` and
``follower`` tell them of posts and jobs, and ``ledger`` remembers what they were told. ``s3`` and
``audio`` are plugins.
"""

from scrapper.plugins.hooks import hookimpl

__all__ = ["hookimpl"]
