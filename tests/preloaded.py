"""What a fork of the service finds imported: see ``tests/forks.py``."""

import gc
import sys
import warnings
from contextlib import suppress
from importlib import import_module

__all__: list[str] = []

# As scrapper/__main__.py does before it imports anything else.
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
    # Some are packages of plugins, which need not be installed.
    with suppress(ImportError):
        import_module(name)
# Only the command fetch needs rich.
del sys.modules["rich"]
import_module("scrapper.commands.fetch")
# Otherwise each fork would copy what its collections look at.
gc.collect()
gc.freeze()
