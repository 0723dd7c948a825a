"""A stand-in for the Dockerfile's base image, made from Debian's packages.

It is a minimal Debian 13, made by debootstrap, with Debian's Python 3.13. It is stored under the
name in ``FROM``. Below a prefix, Debian's pip installs packages in
``local/lib/python3.13/dist-packages``. The Dockerfile copies the prefix to ``/usr/local``, so a
``.pth`` file adds the resulting folder to Python's path.
"""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.image.engine import buildah

__all__ = ["BASE", "make_base", "unpack_debian"]

_DOCKERFILE = Path(__file__).resolve().parents[2] / "Dockerfile"
BASE = re.findall(r"^FROM (\S+)", _DOCKERFILE.read_text(), re.MULTILINE)[0]
"""The name of the base image."""

_PACKAGES = "python3,python3-pip,ca-certificates"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PREFIX = "/usr/local/local/lib/python3.13/dist-packages"


def make_base() -> None:
    """Make the stand-in from Debian's mirror, and store it as :data:`BASE`. This needs root.

    Raises:
        subprocess.CalledProcessError: a step failed.
    """
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        _debootstrap(root, _PACKAGES)
        for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            marker.unlink()
        (root / "usr/bin/python").symlink_to("python3")
        (root / "usr/lib/python3/dist-packages/prefix.pth").write_text(f"{_PREFIX}\n")
        for package in root.glob("var/cache/apt/archives/*.deb"):
            package.unlink()
        # The real base image has none of these folders either. Each layer and each container copies
        # all files of the image, so fewer files save time.
        for folder in ("share/doc", "share/info", "share/locale", "share/man"):
            shutil.rmtree(root / "usr" / folder)
        shutil.rmtree(root / "var/lib/apt/lists")
        # The real base image has no bytecode of the standard library.
        for compiled in root.glob("usr/lib/python3*/**/*.pyc"):
            compiled.unlink()
        container = buildah("from", "scratch")
        buildah("copy", "--quiet", container, str(root), "/")
        buildah("config", "--env", _PATH, "--cmd", "python3", container)
        buildah("commit", "--quiet", "--rm", container, BASE)


def unpack_debian(root: Path, architecture: str) -> None:
    """Unpack the same Debian with Python for another *architecture* in the folder *root*.

    The packages are not configured, because their programs do not run on this machine.

    Raises:
        subprocess.CalledProcessError: a step failed.
    """
    _debootstrap(root, "python3", "--foreign", f"--arch={architecture}")
    for package in root.glob("var/cache/apt/archives/*.deb"):
        subprocess.run(["dpkg-deb", "--extract", str(package), str(root)], check=True)


def _debootstrap(root: Path, packages: str, *options: str) -> None:
    command = ["debootstrap", "--variant=minbase", f"--include={packages}", *options, "trixie"]
    subprocess.run([*command, str(root), _mirror()], check=True, stdout=subprocess.DEVNULL)


def _mirror() -> str:
    """Return the URL of the mirror that apt uses on this machine."""
    command = ["apt-get", "indextargets", "--format", "$(SITE) $(LABEL)", "Created-By: Packages"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return next(line.split()[0] for line in listed.splitlines() if line.endswith(" Debian"))
