"""Bare virtual machines on this one: namespaces of their own, a disk of their own, sshd, nothing else.

A machine is a process tree in its own network, PID, mount, host name, IPC and cgroup namespaces, on an
overlay over a Debian tree. Its mounts and its network exist in its namespaces only, and go when its PID 1
goes. What it shares with this machine: kernel, clock and page cache, so a power cut here loses no written
data, unlike a real one.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO

import psutil

from tests.swarm import base, cache, debian
from tests.swarm.cgroups import Cgroups, hierarchies
from tests.swarm.mirror import Mirror
from tests.swarm.network import Network
from tests.swarm.process import Failed, run
from tests.swarm.registry import Registry
from tests.wait import wait_until

FARMS = 16
NAMES = "cloudburst-farm-{}"
START = Path(__file__).parent / "machine" / "start"
MIRROR_PORT = 3142
REGISTRY_PORT = 5000


class Machine:
    """One virtual machine; made by :meth:`Farm.machine`. Off until :meth:`boot`."""

    def __init__(
        self,
        farm: Farm,
        name: str,
        number: int,
        cpus: Collection[int] | None,
        keys: Sequence[str],
        private: bool,
    ) -> None:
        self.name = name
        self.number = number
        # Neither is used again, since others may remember its host key.
        self.address = str(farm.network.subnet[number])
        self.private_address = str(farm.network.private_subnet[number]) if private else ""
        self.ssh = f"root@{self.address}"
        self._farm = farm
        self._cpus = cpus
        self._cgroups = Cgroups(f"{farm.name}/{name}")
        self._process: subprocess.Popen[bytes] | None = None
        self.directory = farm.directory / name
        for part in ("root", "upper", "work", "docker", "containerd"):
            (self.directory / part).mkdir(parents=True)
        (self.directory / "resolv.conf").write_text(base.resolv_conf())
        own = farm.key.with_suffix(".pub").read_text()
        (self.directory / "authorized_keys").write_text(own + "".join(f"{key.strip()}\n" for key in keys))
        (self.directory / "apt.conf").write_text(f'Acquire::http::Proxy "{farm.mirror.url}";\n')
        (self.directory / "daemon.json").write_text(json.dumps({"registry-mirrors": [farm.registry.url]}))

    def boot(self) -> Machine:
        """Power on; returns when it can be logged in to."""
        assert self._process is None, f"{self.name} is running"
        self._cgroups.create(self._cpus)
        join = " && ".join(f"echo $$ >{file}" for file in self._cgroups.join())
        namespaces = ["--mount", "--net", "--uts", "--ipc", "--pid", "--cgroup", "--fork", "--kill-child"]
        hardware = [str(self.directory), str(self._farm.base), self.name, f"{self.address}/24"]
        hardware += [self._farm.network.gateway, *self._cgroups.options]
        # Standard input is open as long as this process lives: the machine ends when it does, in any way.
        with (self.directory / "console").open("ab") as console:
            self._process = subprocess.Popen(
                ["bash", "-c", f'{join} && exec "$@"', "boot", "unshare", *namespaces, str(START), *hardware],
                stdin=subprocess.PIPE,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self._booting, 10, f"{self.name} to have a network namespace")
        if self.private_address:
            self._farm.network.plug_private(self.number, self.pid, self.private_address)
        self._farm.network.plug(self.number, self.pid)
        wait_until(self._reachable, 60, f"{self.name} to be logged in to; its console: {self.console}")
        return self

    def power_off(self) -> None:
        """Pull the plug: SIGKILL for PID 1, and so for everything on the machine, at once."""
        assert self._process is not None, f"{self.name} is off"
        if self._process.poll() is None:
            os.kill(self.pid, 9)
        self._process.wait(30)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process = None
        wait_until(lambda: not self._cgroups.processes(), 30, f"everything on {self.name} to end")

    def cut_network(self) -> None:
        """Packets vanish, in both directions, unannounced."""
        self._farm.network.cut(self.number)

    def mend_network(self) -> None:
        self._farm.network.mend(self.number)

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 120, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Over SSH, as root. Raises :class:`Failed` with what the program said."""
        return run([*self._ssh, shlex.join(argv)], stdin=stdin, timeout_s=timeout_s, check=check)

    def pipe(self, argv: Sequence[str], stdin: IO[bytes], *, timeout_s: float = 300) -> None:
        """Like :meth:`run`, with a file of any size as standard input."""
        done = subprocess.run(
            [*self._ssh, shlex.join(argv)], stdin=stdin, capture_output=True, timeout=timeout_s, check=False
        )
        if done.returncode:
            raise Failed(f"{argv} on {self.name} ended with {done.returncode}: {done.stderr.decode()}")

    @property
    def mirror_url(self) -> str:
        """Of the HTTP proxy for Debian's packages, as this machine and its containers reach it."""
        return self._farm.mirror.url

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        """Of its PID 1, on this machine."""
        assert self._process is not None, f"{self.name} is off"
        return next(iter(psutil.Process(self._process.pid).children())).pid

    @property
    def engine_pid(self) -> int | None:
        """Of its Docker engine, on this machine."""
        return next((pid for pid in self._cgroups.processes() if _name(pid) == "dockerd"), None)

    @property
    def root(self) -> Path:
        """Its root directory, as seen from this machine, while it runs."""
        return Path(f"/proc/{self.pid}/root")

    @property
    def console(self) -> str:
        """What its init said, since it was made."""
        return (self.directory / "console").read_text()

    @property
    def _ssh(self) -> list[str]:
        return ["ssh", "-F", str(self._farm.ssh_config), self.name, "--"]

    def remove(self) -> None:
        """With its disk, for good."""
        if self._process is not None:
            self.power_off()
        self._cgroups.remove()
        cache.remove(self.directory)
        self._farm.forget(self)

    def _booting(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"{self.name} did not boot: {self.console}"
        children = psutil.Process(self._process.pid).children()
        # The parent moves to the new network namespace first; its child is PID 1.
        return bool(children) and _network(children[0].pid) != _network(os.getpid())

    def _reachable(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"{self.name} stopped while booting: {self.console}"
        return run([*self._ssh, "true"], check=False).returncode == 0


class Farm:
    """A network with machines. Leaving it removes all of it; so does the next farm, if this one crashed."""

    def __init__(self) -> None:
        self.base = base.machine_tree()
        self.machines: dict[str, Machine] = {}
        self._making = threading.Lock()
        self._services = ExitStack()

    def __enter__(self) -> Farm:
        self._lock, self.number = _claim()
        self.name = NAMES.format(self.number)
        self.network = Network(self.number)
        self._numbers = itertools.count(2)  # .1 is this machine
        self.directory = cache.directory() / self.name
        self.directory.mkdir()
        self.key = self.directory / "key"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", str(self.key)])
        self.ssh_config = self.directory / "ssh_config"
        self.write_ssh_config()
        self.network.create()
        # Both stand for the Internet, which machines need for Debian's packages and Docker's images.
        self.mirror = Mirror(cache.directory() / "packages", self.network.gateway, MIRROR_PORT)
        self.registry = Registry(self.network.gateway, REGISTRY_PORT)
        self._services.enter_context(self.mirror)
        self._services.enter_context(self.registry)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for machine in self.machines.values():
            if machine.running:
                machine.power_off()
        self._services.close()
        _sweep(self.number)
        self._lock.close()

    def machine(
        self,
        name: str,
        cpus: Collection[int] | None = None,
        *,
        keys: Sequence[str] = (),
        private: bool = False,
    ) -> Machine:
        """A bare machine, booted.

        ``cpus``: the ones of this machine that it may use (all); ``keys``: public ones that it lets in
        beside the farm's own; ``private``: with ``eth1`` in the private network.
        """
        assert name.replace("-", "").isalnum(), name
        with self._making:
            assert name not in self.machines, f"there is a machine {name}"
            if private:
                self.network.create_private()
            machine = Machine(self, name, next(self._numbers), cpus, keys, private)
            self.machines[name] = machine
            self.write_ssh_config()
        return machine.boot()

    def forget(self, machine: Machine) -> None:
        """It has been removed."""
        with self._making:
            del self.machines[machine.name]
            self.write_ssh_config()

    def write_ssh_config(self) -> None:
        """For `ssh -F`: names and addresses of the machines, the key, and host keys of this farm only."""
        hosts = "".join(f"Host {m.name}\n  HostName {m.address}\n" for m in self.machines.values())
        names = " ".join([*self.machines, f"10.71.{self.number}.*"])
        self.ssh_config.write_text(
            f"{hosts}Host {names}\n  User root\n  IdentityFile {self.key}\n  IdentitiesOnly yes\n"
            "  BatchMode yes\n"
            f"  StrictHostKeyChecking accept-new\n  UserKnownHostsFile {self.directory}/known_hosts\n"
            "  ConnectTimeout 5\n  LogLevel ERROR\n"
        )


def why_not() -> str | None:
    """Why there can be no virtual machines here, whatever is installed; None: there can."""
    if sys.platform != "linux":
        return "virtual machines need Linux"
    if os.geteuid() != 0:
        return "virtual machines need root"
    if not debian.repositories():
        return f"virtual machines are Debian {debian.SUITE}, which apt here is not set up for"
    if not dict(hierarchies()):
        return "virtual machines need cgroups: none are mounted on this machine"
    probe = cache.directory() / f"probe-{os.getpid()}"
    try:
        for part in ("lower", "upper", "work", "root"):
            (probe / part).mkdir(parents=True)
        options = ",".join(f"{kind}dir={probe / kind}" for kind in ("lower", "upper", "work"))
        mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(probe / "root")]
        tried = run(
            ["unshare", "--mount", "--net", "--uts", "--ipc", "--pid", "--cgroup", "--fork", *mount],
            check=False,
        )
        if tried.returncode:
            said = tried.stderr.strip()
            return f"virtual machines need namespaces and overlay mounts in {probe.parent}: {said}"
    finally:
        cache.remove(probe)
    return None


def missing_programs() -> list[str]:
    """What would have to be installed first."""
    programs = ("unshare", "setpriv", "ip", "iptables", "iptables-save", "ssh", "ssh-keygen", "debootstrap")
    return [name for name in programs if shutil.which(name) is None]


def _claim() -> tuple[IO[str], int]:
    """The lock and the number of a farm that nobody has; what crashed farms left is swept away."""
    claimed: tuple[IO[str], int] | None = None
    for number in range(FARMS):
        lock = (Path("/run") / f"{NAMES.format(number)}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        _sweep(number)
        if claimed is None and not Network(number).taken():
            claimed = (lock, number)
        else:
            lock.close()
    assert claimed, f"all {FARMS} networks 10.71.N.0/24 are in use"
    return claimed


def _sweep(number: int) -> None:
    """Remove whatever there is of the farm with this number."""
    Cgroups(NAMES.format(number)).remove()
    Network(number).remove()
    cache.remove(cache.directory() / NAMES.format(number))


def _network(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:  # ended meanwhile
        return ""
