"""Machines behind ssh: a real sshd of our own, on a port of this machine."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudburst.commands.command import Command
from cloudburst.commands.openssh import Target
from cloudburst.errors import CommandError
from cloudburst.hosts.ssh import SshHost
from tests.conftest import free_port
from tests.wait import wait_until

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SSHD is None or shutil.which("ssh") is None, reason="OpenSSH is not installed"),
    pytest.mark.skipif(os.getuid() != 0, reason="sshd lets only root log in as another session"),
]


class Server:
    """One sshd that lets one key in."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.key = directory / "key"
        for name in ("key", "host_key", "other_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)], check=True
            )
        shutil.copy(directory / "key.pub", directory / "authorized_keys")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, host_key: str = "host_key") -> None:
        assert SSHD is not None
        Path("/run/sshd").mkdir(exist_ok=True)
        options = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": self.directory / host_key,
            "AuthorizedKeysFile": self.directory / "authorized_keys",
            "StrictModes": "no",
            "UsePAM": "no",
            "PermitRootLogin": "prohibit-password",
            "PasswordAuthentication": "no",
            "PidFile": "none",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        self.process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", "/dev/null", *words],
            stderr=(self.directory / "sshd.log").open("ab"),
        )
        log = self.directory / "sshd.log"
        wait_until(lambda: "Server listening" in log.read_text(), 10, "sshd to listen")
        log.write_text("")

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait()

    def host(self, key: str = "key") -> SshHost:
        target = Target("127.0.0.1", getpass.getuser(), self.port)
        return SshHost(target, self.directory / "ssh", os.environ, identity=self.directory / key)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def host(server: Server) -> Iterator[SshHost]:
    host = server.host()
    yield host
    host.close()


def test_what_a_command_is_given_arrives_as_it_is(host: SshHost) -> None:
    words = ("a b", "$HOME", "it's", "*", ";", "", "ü")

    done = host.run(Command(("printf", "%s\\n", *words)), 20)

    assert done.stdout.splitlines() == list(words)
    assert done.exit_code == 0


def test_stdin_is_text_bytes_or_a_file(host: SshHost, tmp_path: Path) -> None:
    big = os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(big)

    assert host.run(Command(("cat",), stdin="text"), 20).stdout == "text"
    assert host.run(Command(("wc", "-c"), stdin=big), 20).stdout.strip() == "3000000"
    assert host.run(Command(("wc", "-c"), stdin=tmp_path / "file"), 20).stdout.strip() == "3000000"
    assert host.run(Command(("cat",)), 20).stdout == ""


def test_variables_reach_the_command(host: SshHost) -> None:
    assert host.run(Command(("sh", "-c", "echo $A"), env={"A": "1 2"}), 20).stdout == "1 2\n"


def test_lines_are_passed_on_while_the_command_runs(host: SshHost) -> None:
    seen: list[tuple[str, float]] = []

    host.run(
        Command(("sh", "-c", "echo one; echo two >&2; sleep 1; echo three")),
        20,
        lambda line: seen.append((line, time.monotonic())),
    )

    assert [line for line, _ in seen] == ["one", "two", "three"]
    assert seen[2][1] - seen[0][1] > 0.5


def test_a_failure_names_host_command_and_what_it_said(host: SshHost) -> None:
    with pytest.raises(CommandError) as failure:
        host.run(Command(("sh", "-c", "echo no room >&2; exit 3"), secrets=("room",)), 20)

    assert failure.value.command_exit_code == 3
    assert failure.value.host == "127.0.0.1"
    assert "127.0.0.1: failed (exit code 3): sh -c" in str(failure.value)
    assert str(failure.value).endswith("\n  no ***")


def test_a_command_that_takes_too_long_is_given_up(host: SshHost) -> None:
    with pytest.raises(CommandError, match=r"took longer than 0\.5 s"):
        host.run(Command(("sleep", "30")), 0.5)


def test_many_commands_share_one_connection(host: SshHost, server: Server) -> None:
    host.run(Command(("true",)), 20)
    threads = [threading.Thread(target=host.run, args=(Command(("sleep", "0.2")), 20)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (server.directory / "sshd.log").read_text().count("Accepted publickey") == 1


def test_a_key_that_is_not_let_in_is_named(server: Server) -> None:
    with pytest.raises(CommandError, match=r"authorized_keys must hold the public part of .*other_key"):
        server.host("other_key").run(Command(("true",)), 20)


def test_another_host_key_than_at_first_contact_is_refused(server: Server) -> None:
    first = server.host()
    first.run(Command(("true",)), 20)
    first.close()
    server.stop()
    server.start("other_key")

    with pytest.raises(CommandError, match=r"ssh-keygen -R '\[127\.0\.0\.1\]:\d+' -f .*/ssh/known_hosts"):
        server.host().run(Command(("true",)), 20)


def test_a_machine_that_is_away_is_named(server: Server) -> None:
    server.stop()

    with pytest.raises(CommandError, match=r"127\.0\.0\.1: cannot log in .*refused.*Does it run"):
        server.host().run(Command(("true",)), 20)
    server.start()


def test_a_lost_connection_says_so(server: Server, host: SshHost) -> None:
    def cut() -> None:
        assert server.process is not None
        time.sleep(1)
        subprocess.run(["pkill", "-KILL", "-P", str(server.process.pid)], check=False)

    thread = threading.Thread(target=cut)
    thread.start()

    with pytest.raises(CommandError):
        host.run(Command(("sleep", "30")), 20)
    thread.join()


def test_closing_ends_what_runs(host: SshHost) -> None:
    began = time.monotonic()
    threading.Timer(0.7, host.close).start()

    with pytest.raises(CommandError):
        host.run(Command(("sleep", "30")), 60)

    assert time.monotonic() - began < 10


OTHER = """
import os, sys
from pathlib import Path
from cloudburst.commands.command import Command
from cloudburst.commands.openssh import Target
from cloudburst.hosts.ssh import SshHost
user, port, directory = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
host = SshHost(Target("127.0.0.1", user, port), directory / "ssh", os.environ, identity=directory / "key")
host.run(Command(("true",)), 20)
host.close()
"""


def test_another_process_that_ends_takes_no_connection_along(server: Server, host: SshHost) -> None:
    argv = [sys.executable, "-c", OTHER, getpass.getuser(), str(server.port), str(server.directory)]
    other = subprocess.Popen(argv)

    said = host.run(Command(("sh", "-c", "sleep 4; echo still here")), 30).stdout

    assert other.wait() == 0
    assert said == "still here\n"
    assert not list((server.directory / "ssh").glob(f"*.{other.pid}"))


def test_a_directory_of_its_own_for_the_socket_goes_with_it(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "t"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    directory = tmp_path / ("too-long-for-a-socket-" * 4)
    host = SshHost(Target("127.0.0.1"), directory, os.environ)
    assert list(temporary.glob("cloudburst-*"))
    host.close()

    assert not list(temporary.glob("cloudburst-*"))


def test_nothing_of_the_connection_stays(server: Server) -> None:
    host = server.host()
    host.run(Command(("true",)), 20)
    host.close()

    left = subprocess.run(
        ["pgrep", "-f", str(server.directory / "ssh")], capture_output=True, text=True, check=False
    )
    assert left.stdout.split() == []
