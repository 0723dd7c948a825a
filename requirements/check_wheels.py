"""Check that each package in the image has a wheel for every architecture of the image.

``python requirements/check_wheels.py`` exits with code 0 if so, and with code 1 otherwise. In that
case, pip's errors name the missing wheels.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["ARCHITECTURES", "wheel_options"]

ARCHITECTURES = {
    "linux/amd64": "x86_64",
    "linux/arm64": "aarch64",
    "linux/arm/v7": "armv7l",
}
"""The image's platforms, and the name of each platform in wheel tags."""

_LOCKS = ("base.txt", "redis.txt", "docs.txt", "s3.txt")
_PYTHON = "3.13"
# pip accepts only the given tags, not older ones. The image's base, Debian 13 with glibc 2.41, can
# load wheels with any of these tags.
_TAGS = (
    "manylinux1",
    "manylinux2010",
    "manylinux2014",
    *(f"manylinux_2_{minor}" for minor in range(5, 42)),
)


def main() -> int:
    missing = [platform for platform, name in ARCHITECTURES.items() if not _has_wheels(name)]
    for platform in ARCHITECTURES:
        print(f"{platform}: {'a wheel is missing' if platform in missing else 'complete'}")
    return 1 if missing else 0


def wheel_options(architecture: str, folder: Path) -> list[str]:
    """Return the options that make ``pip install`` put wheels for the image's Python into *folder*.

    *architecture* is one of the values of :data:`ARCHITECTURES`.
    """
    return [
        "--disable-pip-version-check",
        "--ignore-installed",
        "--only-binary=:all:",
        "--implementation=cp",
        f"--python-version={_PYTHON}",
        f"--target={folder}",
        *(f"--platform={tag}_{architecture}" for tag in _TAGS),
    ]


def _has_wheels(architecture: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"]
        command += [*wheel_options(architecture, Path(folder)), "--no-deps", "--require-hashes"]
        command += [f"--requirement={Path(__file__).with_name(lock)}" for lock in _LOCKS]
        return subprocess.run(command, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
