"""A stand-in for Instagram that listens on loopback and speaks Instagram's protocol.

A single thread runs a TLS server, which answers the requests of Instaloader 4.16, and an HTTP proxy
in front of the server. To reach the stand-in, the real Instaloader needs only ``HTTPS_PROXY`` and
``REQUESTS_CA_BUNDLE``, in this process or another::

    with StandIn() as instagram:
        os.environ.update(instagram.environment)
        ...
        assert instagram.requests("graphql") == 1

A post's shortcode decides which answers a client gets: the text before the first ``-`` names one of
:data:`SCENARIOS`, and the rest makes the shortcode unique, as in ``reel-0001`` or ``cut-again``.

The files in ``media`` show FFmpeg's test picture and plain colours: a one-second video of 180 x 320
pixels, pictures of 320 x 400, the same in other formats, and larger pictures.
"""

from tests.instagram.scenarios import SCENARIOS, Answer, Scenario
from tests.instagram.standin import StandIn

__all__ = ["SCENARIOS", "Answer", "Scenario", "StandIn"]
