"""The plugin system, and the plugins that come with the service.

``hooks`` declares the functions that a plugin can implement. ``loading`` finds the plugins.
``follower`` notifies them of posts, jobs and ``conditions``, and ``ledger`` records what each
plugin was notified of. ``audio``, ``notify`` (with its ``outbox``) and ``s3`` are plugins.
"""

from scrapper.plugins.hooks import hookimpl

__all__ = ["hookimpl"]
