"""See that every locked requirement has a wheel for each architecture of the image.

``python requirements/check_wheels.py``: 0 if so, else 1, after pip listed what is missing.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

_LOCKS = tuple(Path(__file__).with_name(name) for name in ("base.txt", "redis.txt", "s3.txt"))
_PYTHON = "3.13"
_ARCHITECTURES = {
    "linux/amd64": "x86_64",
    "linux/arm64": "aarch64",
    "linux/arm/v7": "armv7l",
}
# pip takes the tags that it is given and no older ones: all that Debian 13, the base of the image,
# with its glibc 2.41 can load.
_TAGS = (
    "manylinux1",
    "manylinux2010",
    "manylinux2014",
    *(f"manylinux_2_{minor}" for minor in range(5, 42)),
)


def main() -> int:
    missing = [platform for platform in _ARCHITECTURES if not _has_wheels(platform)]
    for platform in _ARCHITECTURES:
        print(f"{platform}: {'a wheel is missing' if platform in missing else 'complete'}")
    return 1 if missing else 0


def _has_wheels(platform: str) -> bool:
    architecture = _ARCHITECTURES[platform]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--dry-run",
            "--target",
            folder,
        ]
        command += ["--disable-pip-version-check", "--ignore-installed", "--no-deps"]
        command += ["--only-binary=:all:", "--require-hashes"]
        command += [f"--requirement={lock}" for lock in _LOCKS]
        command += ["--implementation=cp", f"--python-version={_PYTHON}"]
        command += [f"--platform={tag}_{architecture}" for tag in _TAGS]
        return subprocess.run(command, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
