"""A stand-in for Instagram at the wire, on loopback.

A TLS server that speaks what Instaloader 4.16 asks for, behind an HTTP proxy, both in a thread
of their own. The real Instaloader reaches it through ``HTTPS_PROXY`` and ``REQUESTS_CA_BUNDLE``
alone, from this process or from another::

    with StandIn() as instagram:
        os.environ.update(instagram.environment)
        ...
        assert instagram.requests("graphql") == 1

A post's shortcode says what becomes of it: the text before its first ``-`` names one of
:data:`SCENARIOS`, the rest makes it distinct, as in ``reel-0001`` or ``cut-again``.

The files in ``media`` are FFmpeg's test picture and plain colours, a second long and 180 x 320
pixels, or 320 x 400.
"""

from tests.instagram.scenarios import SCENARIOS, Scenario
from tests.instagram.standin import StandIn

__all__ = ["SCENARIOS", "Scenario", "StandIn"]
