"""The container engine of this machine."""

import shutil
import subprocess

__all__ = ["BUILDAH", "buildah", "engine"]

BUILDAH = ("buildah", "--storage-driver", "vfs")
"""buildah with a storage driver that works on any kernel, although slowly."""


def engine() -> str:
    """Return the first of ``docker``, ``podman`` and ``buildah`` that works.

    Raises:
        RuntimeError: none of them works.
    """
    # Docker's client may be installed without an engine.
    for name, probe in (("docker", "info"), ("podman", "info"), ("buildah", "version")):
        if shutil.which(name):
            done = subprocess.run([name, probe], capture_output=True, check=False)
            if done.returncode == 0:
                return name
    raise RuntimeError("Docker, Podman or buildah is needed: on Debian, apt install buildah")


def buildah(*arguments: str) -> str:
    """Run buildah; return its output.

    Raises:
        subprocess.CalledProcessError: buildah failed.
    """
    done = subprocess.run([*BUILDAH, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()
