"""What a user writes, and what ssh gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudburst.commands.openssh import Connection, Target
from cloudburst.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("m", Target("m")),
        ("root@m", Target("m", "root")),
        ("ada@m.example.org:2222", Target("m.example.org", "ada", 2222)),
        ("root@10.0.0.1", Target("10.0.0.1", "root")),
        ("root@[2001:db8::1]:22", Target("2001:db8::1", "root", 22)),
        ("2001:db8::1", Target("2001:db8::1")),
    ],
)
def test_a_host_is_written_as_for_ssh(text: str, target: Target) -> None:
    assert Target.parse(text) == target


@pytest.mark.parametrize("text", ["", "root@", "-oProxyCommand=x", "a@-b", "m:ssh", "m;reboot", "a b", "$(x)"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a host"):
        Target.parse(text)


def connection(target: str) -> Connection:
    return Connection(Target.parse(target), Path("/s/100%/c 1"), Path("/s/known hosts"))


def test_a_command_is_quoted_for_the_shell_over_there() -> None:
    argv = connection("root@m:22").run(("echo", "a b", "$x", ";"), {"V": "1 2"}, sudo=False)

    assert argv[:2] == ("ssh", "-T")
    assert argv[-3:] == ("--", "m", "env 'V=1 2' echo 'a b' '$x' ';'")
    assert ("-p", "22", "-l", "root") == argv[-7:-3]


def test_whoever_is_not_root_uses_sudo_that_never_asks() -> None:
    line = connection("ada@m").run(("docker", "info"), {}, sudo=True)[-1]

    assert line == 'sudo -n env SSH_CONNECTION="$SSH_CONNECTION" docker info'


def test_nothing_is_ever_asked_and_a_changed_key_is_refused() -> None:
    argv = connection("m").run(("true",), {}, sudo=False)

    assert "BatchMode=yes" in argv
    assert "StrictHostKeyChecking=accept-new" in argv
    assert 'UserKnownHostsFile="/s/known hosts"' in argv
    assert 'ControlPath="/s/100%%/c 1"' in argv


def test_a_connection_is_ended() -> None:
    assert connection("root@m").close().argv[-4:] == ("-O", "exit", "--", "m")
