"""Commands that really run on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from cloudburst.commands.command import Command
from cloudburst.errors import CommandError
from cloudburst.hosts.local import LocalHost
from cloudburst.hosts.process import Process
from tests.wait import wait_until


@pytest.fixture
def host() -> LocalHost:
    return LocalHost({"PATH": os.environ["PATH"], "GREETING": "hello"})


def python(code: str, **env: str) -> Command:
    return Command((sys.executable, "-c", code), env=env)


def test_a_command_runs_with_its_own_variables_over_the_hosts(host: LocalHost) -> None:
    code = "import os; print(os.environ['GREETING'], os.environ['NAME'])"

    done = host.run(python(code, NAME="Ada"), timeout_s=10)

    assert (done.exit_code, done.stdout) == (0, "hello Ada\n")


def test_secrets_travel_by_stdin(host: LocalHost) -> None:
    done = host.run(Command(("cat",), stdin="secret"), timeout_s=10)

    assert done.stdout == "secret"


def test_a_command_that_fails_raises_with_its_last_words(host: LocalHost) -> None:
    with pytest.raises(CommandError, match=r"failed \(exit code 3\): no such thing") as raised:
        host.run(python("import sys; print('no such thing', file=sys.stderr); sys.exit(3)"), timeout_s=10)

    assert (raised.value.command_exit_code, raised.value.host) == (3, "this machine")


def test_a_command_that_is_not_there_raises(host: LocalHost) -> None:
    with pytest.raises(CommandError, match="no-such-program: cannot be run: No such file"):
        host.run(Command(("no-such-program",)), timeout_s=10)


def test_a_command_that_hangs_raises(host: LocalHost) -> None:
    with pytest.raises(CommandError, match=r"took longer than 0\.2 s"):
        host.run(Command(("sleep", "10")), timeout_s=0.2)


def test_a_started_process_is_a_session_of_its_own_that_writes_to_its_log(
    host: LocalHost, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")

    process = host.start(
        python("import os, sys, time; print(os.getsid(0), flush=True); sys.stdin.read(); time.sleep(60)"), log
    )

    wait_until(lambda: log.read_text().endswith("\n") and log.read_text() != "before\n", 5, "its line")
    assert log.read_text() == f"before\n{process.pid}\n"
    assert host.exit_code(process) is None
    host.stop(process, grace_s=5)
    assert host.exit_code(process) == -15


def test_a_program_that_cannot_be_started_raises(host: LocalHost, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be started: No such file"):
        host.start(Command(("no-such-program",)), tmp_path / "log")


def test_stopping_waits_for_a_process_that_cleans_up(host: LocalHost, tmp_path: Path) -> None:
    log = tmp_path / "log"
    tidy = """
import signal, sys, time
def stop(*_):
    time.sleep(0.2); print("clean", flush=True); sys.exit(0)
signal.signal(signal.SIGTERM, stop); print("ready", flush=True); time.sleep(60)
"""
    process = host.start(python(tidy), log)
    wait_until(lambda: log.exists() and "ready" in log.read_text(), 5, "the process to be ready")

    host.stop(process, grace_s=10)

    assert (log.read_text(), host.exit_code(process)) == ("ready\nclean\n", 0)


def test_stopping_kills_what_does_not_listen_and_all_its_descendants(host: LocalHost, tmp_path: Path) -> None:
    # given a process that ignores SIGTERM, as does its child in a session of its own
    log = tmp_path / "log"
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); "
    child = f"[{sys.executable!r}, '-c', {deaf + 'time.sleep(60)'!r}]"
    process = host.start(
        python(f"{deaf} import subprocess; subprocess.run({child}, start_new_session=True)"), log
    )
    wait_until(lambda: log.exists() and log.read_text().count("deaf") == 2, 5, "both to be ready")
    family = [process, *process.descendants()]

    host.stop(process, grace_s=0.1)

    assert len(family) == 2
    assert [host.is_alive(member) for member in family] == [False, False]


def test_stopping_what_is_gone_is_no_error(host: LocalHost, tmp_path: Path) -> None:
    process = host.start(Command(("true",)), tmp_path / "log")
    wait_until(lambda: not host.is_alive(process), 5, "its end")

    host.stop(process, grace_s=1)

    assert host.exit_code(process) == 0


def test_stopping_spares_another_process_with_the_same_pid(host: LocalHost) -> None:
    me = Process.of(os.getpid())
    assert me is not None

    host.stop(Process(me.pid, me.started_at - 100, me.born_s - 100), grace_s=1)
