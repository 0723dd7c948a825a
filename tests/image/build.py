"""Build the image: ``python -m tests.image.build IMAGE [--target full] [--platform PLATFORM]``.

Docker, Podman or buildah builds the real Dockerfile. If buildah cannot get the base image, because
no registry can be reached, debootstrap makes a stand-in for it first (see
:mod:`tests.image.base`). This module needs only the standard library.
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
    parser.add_argument("--target", default="slim", help="slim, or full (with ffmpeg)")
    parser.add_argument("--platform", help="such as linux/arm64; default: this machine's platform")
    options = parser.parse_args()
    more = ["--build-arg", f"VERSION={__version__}", "--target", options.target]
    if options.platform:
        more += ["--platform", options.platform]
    return build(options.image, _ROOT, more)


def build(image: str, context: Path, more: Sequence[str] = ()) -> int:
    """Build *image* from the Dockerfile in the folder *context*, with *more* arguments.

    Return the builder's exit code.
    """
    name = engine()
    command = {
        "docker": ["docker", "buildx", "build", "--load"],
        "podman": ["podman", "build", "--format", "docker"],
        "buildah": [*BUILDAH, "bud", "--isolation", "chroot", "--format", "docker"],
    }[name]
    if name == "buildah":
        _ensure_base()
        # The certificates may include that of a proxy in front of the package index.
        command += ["--pull-never", "--volume", f"{_CERTIFICATES}:{_CERTIFICATES}:ro"]
    return subprocess.run([*command, *more, "--tag", image, str(context)], check=False).returncode


def _ensure_base() -> None:
    """Pull the base image unless it is stored; make a stand-in if it cannot be pulled."""
    for command in (["inspect", "--type", "image", BASE], ["pull", BASE]):
        if not subprocess.run([*BUILDAH, *command], capture_output=True, check=False).returncode:
            return
    make_base()


if __name__ == "__main__":
    sys.exit(main())
