"""Build the image: ``python -m tests.image.build IMAGE [--target full] [--platform PLATFORM]``.

Docker, Podman or buildah builds the real Dockerfile. Where buildah has no base image, because no
registry can be reached, Debian's debootstrap makes a stand-in for it first (see
:mod:`tests.image.base`). The standard library is all that is needed.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from scrapper import __version__
from tests.image.base import BASE, make_base
from tests.image.engine import BUILDAH, engine

__all__ = ["build", "main"]

_ROOT = Path(__file__).resolve().parents[2]
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def main() -> int:
    """Build the image that the command line names; return the builder's exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.image.build")
    parser.add_argument("image", help="the image's name")
    parser.add_argument("--target", default="slim", help="slim, or full: with ffmpeg")
    parser.add_argument("--platform", help="such as linux/arm64; the machine's own if not given")
    options = parser.parse_args()
    more = ["--build-arg", f"VERSION={__version__}", "--target", options.target]
    if options.platform:
        more += ["--platform", options.platform]
    return build(options.image, _ROOT, more)


def build(image: str, context: Path, more: Sequence[str] = ()) -> int:
    """Build *image* of the Dockerfile in the folder *context*, with *more* arguments.

    Return the builder's exit code.
    """
    name = engine()
    command = {
        "docker": ["docker", "buildx", "build", "--load"],
        "podman": ["podman", "build", "--format", "docker"],
        "buildah": [*BUILDAH, "bud", "--isolation", "chroot", "--format", "docker"],
    }[name]
    if name == "buildah":
        command += ["--pull-never"] if _make_sure_of_base() else []
        # Where a proxy stands before the package index, its authority is among these.
        command += ["--volume", f"{_CERTIFICATES}:{_CERTIFICATES}:ro"]
    return subprocess.run([*command, *more, "--tag", image, str(context)], check=False).returncode


def _make_sure_of_base() -> bool:
    """Whether the base image is here, and need not be pulled."""
    there = subprocess.run(
        [*BUILDAH, "inspect", "--type", "image", BASE], capture_output=True, check=False
    )
    if there.returncode == 0:
        return True
    pulled = subprocess.run([*BUILDAH, "pull", BASE], capture_output=True, check=False)
    if pulled.returncode:
        make_base()
    return True


if __name__ == "__main__":
    sys.exit(main())
