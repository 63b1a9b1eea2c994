"""A Docker engine of the tests' own; what it has built stays in the cache, so that a second run is quick."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.swarm import base, cache
from tests.swarm.mirror import Mirror
from tests.swarm.process import run
from tests.wait import wait_until

REPOSITORY = Path(__file__).parents[2]
IMAGES = ("worker", "filestore", "queue-dash", "queue", "gateway")
INFLUX = REPOSITORY / "tests/swarm/images/influx1"
BASE_IMAGE = "cloudburst-tests/base"
NETWORK = "cloudburst-tests"
SUBNET = "10.172.219"
CLIENTS = tuple(path for path in ("/usr/bin/docker", "/usr/local/bin/docker") if Path(path).exists())
"""All that are here: they are of different versions, as a rule."""


def why_not() -> str | None:
    """Why there can be no engine here; None: there can."""
    if os.geteuid() != 0:
        return "a Docker engine needs root"
    programs = ("dockerd", "docker", "docker-init", "debootstrap", "openssl")
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        return f"tests of images need {', '.join(missing)}: install them (.ci/run does, on Debian)"
    return None


def buildkit_clients() -> list[str]:
    """Docker's clients here that can build with BuildKit: up to 20.10 all, later ones with buildx."""
    found = []
    for client in CLIENTS:
        version = run([client, "version", "--format", "{{.Client.Version}}"], check=False).stdout
        old = version.strip().startswith(("19.", "20."))
        if old or not run([client, "buildx", "version"], check=False).returncode:
            found.append(client)
    return found


class Engine:
    """dockerd without bridge and firewall rules of its own: it leaves this machine's network alone.

    Containers are on one network, each with an address of its own, and reach nothing else.
    """

    def __init__(self) -> None:
        self._directory = cache.directory().parent / "engine"
        self._runtime = Path(f"/run/cloudburst-tests-{os.getpid()}")
        self._process: subprocess.Popen[bytes] | None = None
        self._containers: list[str] = []

    def __enter__(self) -> Engine:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._runtime.mkdir(mode=0o700)
        # It ends when these tests do, however they end.
        argv = [
            "setpriv",
            "--pdeathsig=TERM",
            "dockerd",
            "--data-root",
            str(self._directory),
            "--exec-root",
            str(self._runtime / "exec"),
        ]
        argv += ["--host", self._host, "--pidfile", str(self._runtime / "pid")]
        argv += ["--iptables=false", "--bridge=none", f"--cgroup-parent=/cloudburst-tests-{os.getpid()}"]
        with (self._runtime / "log").open("wb") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        wait_until(self._answers, 60, f"the engine ({self._runtime}/log)")
        for left in self.docker("ps", "--all", "--quiet").split():
            self.docker("rm", "--force", "--volumes", left)
        if NETWORK in self.docker("network", "ls", "--format", "{{.Name}}").split():
            self.docker("network", "rm", NETWORK)
        self.docker("network", "create", f"--subnet={SUBNET}.0/24", NETWORK)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        for name in self._containers:
            self.docker("rm", "--force", "--volumes", name, check=False)
        self.docker("network", "rm", NETWORK, check=False)
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if line.split()[1].startswith(f"{self._runtime}/"):
                run(["umount", "--lazy", line.split()[1]], check=False)
        cache.remove(self._runtime)

    @property
    def _host(self) -> str:
        return f"unix://{self._runtime}/docker.sock"

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._runtime / "log").read_text()[-2000:]
        return not run(["docker", "version"], env=self._environ(), check=False).returncode

    def _environ(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self._runtime),
            "DOCKER_HOST": self._host,
            **(more or {}),
        }

    def docker(
        self,
        *arguments: str,
        client: str = "docker",
        check: bool = True,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout_s: float = 120,
    ) -> str:
        """The client's stdout and, without ``check``, its stderr."""
        argv = [client, *arguments]
        done = run(argv, env=self._environ(env), check=check, stdin=stdin, timeout_s=timeout_s)
        return done.stdout if check else done.stdout + done.stderr

    def build_all(self) -> None:
        """Every image as ``cloudburst-tests/NAME``, on a Debian that was made here, by the legacy builder."""
        with self._arguments() as arguments:
            for folder in (*(REPOSITORY / "images" / name for name in IMAGES), INFLUX):
                context = INFLUX if folder == INFLUX else REPOSITORY
                self._build(context, folder, f"cloudburst-tests/{folder.name}", arguments)

    def build_with_buildkit(self, name: str, client: str) -> str:
        """One image by the newer builder; what it is called. ``client``: one of ``buildkit_clients``."""
        image = f"cloudburst-tests/{name}-by-buildkit"
        with self._arguments() as arguments:
            folder = REPOSITORY / "images" / name
            self._build(REPOSITORY, folder, image, arguments, client=client, buildkit=True)
        return image

    @contextmanager
    def _arguments(self) -> Iterator[dict[str, str]]:
        """Build arguments, and what they name."""
        wanted = base.image_tree().name
        if wanted not in self.docker("images", "--format", "{{.Tag}}", BASE_IMAGE):
            tar = subprocess.Popen(["tar", "-C", str(base.image_tree()), "-c", "."], stdout=subprocess.PIPE)
            argv = ["docker", "import", "-", f"{BASE_IMAGE}:{wanted}"]
            subprocess.run(argv, env=self._environ(), stdin=tar.stdout, check=True, stdout=subprocess.DEVNULL)
        with Mirror(cache.directory() / "packages", "127.0.0.1") as mirror:
            yield {
                "BASE_IMAGE": f"{BASE_IMAGE}:{wanted}",
                "CA_CERT": "".join(path.read_text() for path in base.extra_certificates()),
                # What the engine knows as a proxy is no part of what it finds built images by.
                "http_proxy": mirror.url,
            }

    def _build(
        self,
        context: Path,
        folder: Path,
        image: str,
        arguments: Mapping[str, str],
        *,
        client: str = "docker",
        buildkit: bool = False,
    ) -> None:
        given = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        build = ["build", "--network=host", "-f", str(folder / "Dockerfile"), "-t", image, *given]
        environ = {"DOCKER_BUILDKIT": str(int(buildkit))}
        self.docker(*build, str(context), client=client, env=environ, timeout_s=900)

    def inspect(self, name: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", name))
        return found[0]

    def start(
        self, name: str, image: str, *options: str, address: int, arguments: tuple[str, ...] = ()
    ) -> None:
        """A container on the network, as the compose file has it: read-only, without capabilities."""
        self._containers.append(name)
        self.docker(
            *("run", "--detach", "--init", "--name", name, "--network", NETWORK),
            *("--ip", f"{SUBNET}.{address}", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
            *options,
            image,
            *arguments,
        )

    def health(self, name: str) -> str:
        state: dict[str, Any] = self.inspect(name)["State"]
        assert state["Running"], self.logs(name)
        return str(state["Health"]["Status"])

    def wait_healthy(self, name: str, timeout_s: float = 60) -> None:
        try:
            wait_until(lambda: self.health(name) == "healthy", timeout_s, f"{name} to become healthy")
        except AssertionError as error:
            raise AssertionError(f"{error}; it says:\n{self.logs(name)}") from None

    def logs(self, name: str) -> str:
        return self.docker("logs", name, check=False)

    def users(self, name: str) -> set[int]:
        """Real uids of the container's processes."""
        listing = self.docker("top", name, "-eo", "pid,ruid,args").splitlines()[1:]
        return {int(line.split()[1]) for line in listing}
