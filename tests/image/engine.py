"""Which container engine this machine has."""

import shutil
import subprocess

__all__ = ["BUILDAH", "buildah", "engine"]

BUILDAH = ("buildah", "--storage-driver", "vfs")
"""Without a storage driver of its own in the kernel, buildah works anywhere, if slowly."""


def engine() -> str:
    """``docker``, ``podman`` or ``buildah``: the first that works.

    Raises:
        RuntimeError: there is none.
    """
    # The client of Docker may be there without an engine.
    for name, probe in (("docker", "info"), ("podman", "info"), ("buildah", "version")):
        if shutil.which(name):
            done = subprocess.run([name, probe], capture_output=True, check=False)
            if done.returncode == 0:
                return name
    raise RuntimeError("Docker, Podman or buildah is needed: on Debian, apt install buildah")


def buildah(*arguments: str) -> str:
    """Run buildah; return what it prints.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    done = subprocess.run([*BUILDAH, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()
