"""``make smoke IMAGE=...``: an image starts, answers, scrapes a post and ends.

The container runs as users are told to run it: another user, nothing but ``/data`` and ``/tmp`` to
write to, no capabilities. The stand-in for Instagram runs outside of it, on loopback.
"""

import subprocess
import sys
import uuid

import requests

from tests.instagram import StandIn
from tests.service import free_port, wait_for_answer

_START_SECONDS = 120


def main() -> int:
    [image] = sys.argv[1:]
    name, port = f"smoke-{uuid.uuid4().hex[:8]}", free_port()
    with StandIn() as instagram, requests.Session() as session:
        session.trust_env = False
        environment = {**instagram.environment, "PORT": str(port), "SCRAPE_TIMEOUT_SECONDS": "300"}
        command = ["docker", "run", "--detach", "--name", name, "--network", "host"]
        command += ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"]
        command += ["--security-opt", "no-new-privileges"]
        command += ["--volume", f"{instagram.ca_bundle}:{instagram.ca_bundle}:ro"]
        for variable, value in environment.items():
            command += ["--env", f"{variable}={value}"]
        # Else the user of the container could not read it.
        instagram.ca_bundle.parent.chmod(0o755)
        subprocess.run([*command, image], check=True, stdout=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for_answer(f"{url}/health", seconds=_START_SECONDS)
            health = session.get(f"{url}/health", timeout=60)
            assert (health.status_code, health.text) == (200, "OK")
            body = {"url": "https://www.instagram.com/reel/reel-smoke/"}
            scraped = session.post(f"{url}/scrape", json=body, timeout=300)
            assert scraped.status_code == 200, scraped.text
            assert scraped.json()["video"] == "/data/instaloader/reel-smoke/reel-smoke.mp4"
            file = session.get(f"{url}/download/reel-smoke", timeout=60)
            assert [file.content] == instagram.bytes_of("reel-smoke")
            subprocess.run(["docker", "stop", "--time", "60", name], check=True)
            code = subprocess.run(["docker", "wait", name], check=True, capture_output=True)
            assert code.stdout.strip() == b"0", code.stdout
        finally:
            subprocess.run(["docker", "logs", name], check=False)
            subprocess.run(["docker", "rm", "--force", "--volumes", name], check=False)
    print(f"{image}: started, answered, scraped and ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
