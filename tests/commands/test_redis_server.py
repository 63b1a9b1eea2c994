"""Facts in, argv and configuration out."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cloudburst.commands.command import Command
from cloudburst.commands.redis_server import RedisServer, version
from tests import conftest

SERVER = RedisServer(
    binary=Path("/usr/bin/redis-server"),
    port=6379,
    directory=Path("/home/ada/.cloudburst/local/redis"),
    config_file=Path("/home/ada/.cloudburst/local/run/redis.conf"),
    password='pass"word',
)


def test_argv_holds_the_configuration_file_and_no_secret() -> None:
    assert SERVER.command() == Command(
        ("/usr/bin/redis-server", "/home/ada/.cloudburst/local/run/redis.conf")
    )
    assert "pass" not in repr(SERVER)


def test_the_configuration_keeps_every_job() -> None:
    directives = [line for line in SERVER.config().splitlines() if not line.startswith("#")]

    assert directives == [
        "bind 127.0.0.1",
        "port 6379",
        'dir "/home/ada/.cloudburst/local/redis"',
        "protected-mode yes",
        "daemonize no",
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "maxmemory-policy noeviction",
        "hash-max-ziplist-value 2048",
        "set-proc-title no",
        "tcp-keepalive 60",
        "tcp-backlog 511",
        'requirepass "pass\\"word"',
    ]


def test_without_a_password_none_is_required() -> None:
    server = RedisServer(SERVER.binary, 6379, SERVER.directory, SERVER.config_file)

    assert "requirepass" not in server.config()


def test_the_version_is_asked_of_the_binary() -> None:
    assert version(Path("/opt/redis-server")) == Command(("/opt/redis-server", "--version"))


def run_repair(directory: Path, *limit: str) -> str:
    server = RedisServer(Path(conftest.redis_binary()), 0, directory, directory / "redis.conf")
    return subprocess.run([*server.repair().argv, *limit], check=True, capture_output=True, text=True).stdout


def command(*words: str) -> bytes:
    return f"*{len(words)}\r\n".encode() + b"".join(f"${len(w)}\r\n{w}\r\n".encode() for w in words)


SELECTED = command("SELECT", "0")
SCRIPT = command("MULTI") + command("SET", "a", "1") + command("SET", "b", "1") + command("EXEC")


def test_half_of_a_script_at_the_end_of_the_file_is_taken_off(tmp_path: Path) -> None:
    file = tmp_path / "appendonly.aof"
    torn = SCRIPT[: SCRIPT.index(b"EXEC") - 20]
    file.write_bytes(SELECTED + SCRIPT + torn)

    said = run_repair(tmp_path)

    assert file.read_bytes() == SELECTED + SCRIPT
    assert "unfinished script" in said


def test_a_whole_file_and_no_file_are_left_alone(tmp_path: Path) -> None:
    assert run_repair(tmp_path) == ""
    file = tmp_path / "appendonly.aof"
    file.write_bytes(SELECTED + SCRIPT)

    assert run_repair(tmp_path) == ""
    assert file.read_bytes() == SELECTED + SCRIPT


def test_a_file_that_is_damaged_in_its_middle_is_left_to_whoever_runs_redis(tmp_path: Path) -> None:
    file = tmp_path / "appendonly.aof"
    file.write_bytes(SELECTED + SCRIPT + b"damage" + SCRIPT * 100)

    assert "damaged" in run_repair(tmp_path)
    assert file.read_bytes().count(b"EXEC") == 101


def test_more_than_one_script_is_not_taken_off(tmp_path: Path) -> None:
    file = tmp_path / "appendonly.aof"
    torn = command("MULTI") + command("SET", "a", "x" * 200)
    file.write_bytes(SELECTED + torn)

    assert "damaged" in run_repair(tmp_path, "100")
    assert file.read_bytes() == SELECTED + torn
