"""First contact with machines, by a real sshd on an address of this one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloudburst import config
from cloudburst.errors import StackError
from cloudburst.providers.provider import Node
from cloudburst.stack.cloud import keys, openssh
from cloudburst.stack.cloud.paths import CloudPaths
from cloudburst.stack.cloud.swarm import SwarmOfMachines
from tests.wait import wait_until

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
ADDRESS = "127.0.0.77"
"""Linux answers on all of 127.0.0.0/8, so port 22 is free there unless sshd listens everywhere."""


def _free() -> bool:
    try:
        socket.create_server((ADDRESS, 22)).close()
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(
    not SSHD or os.geteuid() != 0 or not _free(), reason=f"needs sshd, root, and port 22 of {ADDRESS}"
)


@dataclass
class Machine:
    """Lets in who has the stack's key, with a host key that can change."""

    directory: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self, public_key: str) -> None:
        self.stop()
        (self.directory / "host").unlink(missing_ok=True)
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.directory / "host")]
        subprocess.run(key, check=True)
        allowed = self.directory / "authorized_keys"
        allowed.write_text(public_key + "\n")
        Path("/run/sshd").mkdir(exist_ok=True)
        said = {
            "ListenAddress": f"{ADDRESS}:22",
            "HostKey": self.directory / "host",
            "AuthorizedKeysFile": allowed,
            "PermitRootLogin": "yes",
            "StrictModes": "no",
            "UsePAM": "no",
            "PidFile": "none",
        }
        options = [word for name, value in said.items() for word in ("-o", f"{name}={value}")]
        assert SSHD
        self.process = subprocess.Popen([SSHD, "-D", "-f", "/dev/null", *options])
        wait_until(lambda: not _free(), 30, "sshd")

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(30)
            wait_until(_free, 30, "the end of sshd")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.stop()


def node(identity: str) -> Node:
    return Node("floods", "floods-master", ADDRESS, identity=identity)


def test_a_machine_tells_our_address_and_has_to_show_its_key_again(tmp_path: Path, machine: Machine) -> None:
    environ = {**os.environ, "CLOUDBURST_HOME": str(tmp_path / "home")}
    paths = CloudPaths(config.stack_dir(environ, "floods"))
    paths.make()
    public = keys.ensure(paths)
    swarm = SwarmOfMachines(environ, tmp_path, "floods", None, lambda _line: None)
    openssh.write(paths, [node("11")])
    assert swarm.reach(["floods-master"], 0.0) == {}  # nobody listens yet

    machine.start(public)
    assert swarm.reach(["floods-master"], 60.0) == {"floods-master": "127.0.0.1"}
    assert paths.known_hosts.read_text().startswith("cloudburst-11 ssh-ed25519 ")

    # Somebody else at that address: refused at once.
    machine.start(public)
    with pytest.raises(StackError, match=r"another key than at first contact.*'cloudburst-11'"):
        swarm.reach(["floods-master"], 60.0)

    # Unless it is another machine.
    openssh.write(paths, [node("12")])
    assert swarm.reach(["floods-master"], 60.0) == {"floods-master": "127.0.0.1"}
    assert "cloudburst-11" not in paths.known_hosts.read_text()
