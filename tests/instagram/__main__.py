"""The stand-in as a process: ``python -m tests.instagram``.

Prints a line of JSON with the environment variables that clients need to reach it. Then it answers
each line of its input with the numbers of requests and connections; the line ``reset`` sets them to
zero first, and ``counters`` does not. It ends at the end of its input.
"""

import argparse
import json
import sys

from tests.instagram import StandIn


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.instagram", description=__doc__)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before an answer")
    parser.add_argument("--cdn-latency", type=float, default=0.0, help="the same for the CDN")
    parser.add_argument("--reel-bytes", type=int, help="size of a reel")
    options = parser.parse_args()
    with StandIn(
        latency=options.latency,
        cdn_latency=options.cdn_latency,
        reel_bytes=options.reel_bytes,
    ) as instagram:
        print(json.dumps(instagram.environment), flush=True)
        for line in sys.stdin:
            if line.strip() == "reset":
                instagram.reset_counters()
            counters = {
                "graphql": instagram.requests("graphql"),
                "media": instagram.requests("media"),
                "connections": instagram.connections(),
                "peak_queries": instagram.peak_queries(),
            }
            print(json.dumps(counters), flush=True)


if __name__ == "__main__":
    main()
