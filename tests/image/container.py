"""Runs containers of an image with Docker, Podman or buildah.

Each container runs as documented: not as root, with only ``/data`` and ``/tmp`` writable, and
without new privileges. It uses the host's network, where the stand-in for Instagram listens.
buildah cannot make the root read-only. Its container is therefore mounted, bound read-only in a
separate mount namespace, and entered with chroot.
"""

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from tests.image.engine import BUILDAH, buildah, engine
from tests.process import PATIENCE_SECONDS

__all__ = ["Container", "Image"]

_ENTER = """
set -e
mount --make-rprivate /
mount --bind "$ROOT" "$ROOT"
mount -o remount,bind,ro "$ROOT"
mount --bind "$MEDIA" "$ROOT/data"
mount -t tmpfs -o size=16m,mode=1777 tmpfs "$ROOT/tmp"
mount --bind "$CERTIFICATES" "$ROOT/mnt"
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
exec setpriv --no-new-privs chroot --userspec="$USERSPEC" --groups= "$ROOT" \\
    env --ignore-environment --chdir="$WORKDIR" "$@"
"""


class Container(Protocol):
    """A program in a container. The folder of certificates is mounted at ``/mnt``."""

    def run(self, command: Sequence[str]) -> int:
        """Run another *command* in the container; return its exit code."""
        ...

    def wait(self) -> int:
        """Wait until the program ends by itself; return its exit code."""
        ...

    def stop(self) -> int:
        """Send SIGTERM, wait until the program ends, and return its exit code."""
        ...

    def kill(self) -> None:
        """Kill the program, and remove the container."""
        ...


class Image:
    """An image with its name and its configuration.

    buildah copies all files of an image for each container, so all containers of an image share
    one copy. They cannot write to it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.engine = engine()
        self.config: dict[str, Any] = self._inspect()
        self._container = ""

    @cached_property
    def root(self) -> str:
        """The folder in which buildah has mounted the image, until :meth:`close`."""
        self._container = buildah("from", "--pull-never", self.name)
        return buildah("mount", self._container)

    def close(self) -> None:
        """Remove buildah's copy, if there is one."""
        if self._container:
            buildah("umount", self._container)
            buildah("rm", self._container)

    def start(
        self,
        arguments: Sequence[str],
        *,
        media: Path,
        certificates: Path,
        environment: Mapping[str, str],
        user: str = "",
    ) -> Container:
        """Start the image's program with *arguments*. The folder *media* is its ``/data``.

        *user* is ``UID:GID``. By default, it is the image's own user.
        """
        kind = _Mounted if self.engine == "buildah" else _Engine
        return kind(
            self,
            arguments,
            media=media,
            certificates=certificates,
            environment=environment,
            user=user or self.config["User"],
        )

    def _inspect(self) -> dict[str, Any]:
        command = [*BUILDAH, "inspect", "--type", "image", self.name]
        if self.engine != "buildah":
            command = [self.engine, "image", "inspect", self.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        data = json.loads(text)
        config: dict[str, Any] = (
            data["Docker"]["config"] if self.engine == "buildah" else data[0]["Config"]
        )
        return config


class _Engine:
    """A container of Docker or Podman."""

    def __init__(
        self,
        image: Image,
        arguments: Sequence[str],
        *,
        media: Path,
        certificates: Path,
        environment: Mapping[str, str],
        user: str,
    ) -> None:
        self._engine = image.engine
        command = [image.engine, "run", "--detach", "--network", "host", "--user", user]
        command += ["--read-only", "--tmpfs", "/tmp:size=16m,mode=1777", "--cap-drop", "ALL"]
        command += ["--security-opt", "no-new-privileges"]
        command += ["--volume", f"{media}:/data", "--volume", f"{certificates}:/mnt:ro"]
        for name, value in environment.items():
            command += ["--env", f"{name}={value}"]
        started = subprocess.run(
            [*command, image.name, *arguments], check=True, capture_output=True, text=True
        )
        self._id = started.stdout.strip()

    def run(self, command: Sequence[str]) -> int:
        return subprocess.run([self._engine, "exec", self._id, *command], check=False).returncode

    def wait(self) -> int:
        waited = subprocess.run(
            [self._engine, "wait", self._id],
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        return int(waited.stdout)

    def stop(self) -> int:
        seconds = str(PATIENCE_SECONDS)
        subprocess.run([self._engine, "stop", "--time", seconds, self._id], check=True)
        return self.wait()

    def kill(self) -> None:
        subprocess.run([self._engine, "logs", self._id], check=False)
        subprocess.run([self._engine, "rm", "--force", "--volumes", self._id], check=False)


class _Mounted:
    """A container of buildah, entered with chroot."""

    def __init__(
        self,
        image: Image,
        arguments: Sequence[str],
        *,
        media: Path,
        certificates: Path,
        environment: Mapping[str, str],
        user: str,
    ) -> None:
        own = dict(variable.split("=", 1) for variable in image.config["Env"])
        self._environment = [f"{name}={value}" for name, value in {**own, **environment}.items()]
        self._variables = {
            "PATH": os.environ["PATH"],
            "ROOT": image.root,
            "MEDIA": str(media),
            "CERTIFICATES": str(certificates),
            "USERSPEC": user,
            "WORKDIR": image.config["WorkingDir"],
        }
        self._process = self._enter([*image.config["Entrypoint"], *arguments])

    def run(self, command: Sequence[str]) -> int:
        return self._enter(command).wait()

    def wait(self) -> int:
        return self._process.wait(PATIENCE_SECONDS)

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _enter(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        enter = ["unshare", "--mount", "sh", "-c", _ENTER, "sh", *self._environment, *command]
        return subprocess.Popen(enter, env=self._variables)
