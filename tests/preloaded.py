"""Imports the modules that forks of the service share: see ``tests/forks.py``."""

import gc
import sys
import warnings
from contextlib import suppress
from importlib import import_module

__all__: list[str] = []

# scrapper/__main__.py does the same before its imports.
warnings.filterwarnings("ignore", "Unable to find acceptable character detection")
sys.modules["charset_normalizer"] = sys.modules["rich"] = None  # type: ignore[assignment]
for name in (
    "tests.forks",
    "scrapper.commands.serve",
    "scrapper.commands.worker",
    "scrapper.jobs.stores.redis_deliveries",
    "scrapper.replicas.fleet",
    "scrapper.plugins.audio",
    "scrapper.plugins.notify",
    "scrapper.plugins.s3",
    "apprise",
    "boto3",
    "taskiq.receiver",
    "scrapper.commands.login",
):
    # Some are dependencies of plugins, which need not be installed.
    with suppress(ImportError):
        import_module(name)
# Only the command fetch needs rich.
del sys.modules["rich"]
import_module("scrapper.commands.fetch")
# Otherwise garbage collections in each fork would copy the memory of these modules.
gc.collect()
gc.freeze()
