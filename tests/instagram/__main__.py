"""The stand-in as a process: ``python -m tests.instagram``.

The process prints a line of JSON with the environment variables that clients need to reach the
stand-in. After that, it prints the numbers of requests and connections for each line that it reads
from its input. The line ``reset`` sets the numbers to zero first, and the line ``counters`` does
not. The process exits at the end of its input.
"""

import argparse
import json
import sys

from tests.instagram import StandIn


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.instagram", description=__doc__)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--cdn-latency", type=float, default=0.0, help="seconds before each file")
    parser.add_argument("--reel-bytes", type=int, help="size of each reel in bytes")
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
