"""Facts in, argv and configuration out."""

from __future__ import annotations

from pathlib import Path

from cloudburst.commands.command import Command
from cloudburst.commands.redis_server import RedisServer, version

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
        "aof-load-truncated no",
        'save ""',
        "maxmemory-policy noeviction",
        "hash-max-ziplist-value 2048",
        "set-proc-title no",
        "tcp-keepalive 60",
        "timeout 60",
        "maxclients 20000",
        "tcp-backlog 511",
        'requirepass "pass\\"word"',
    ]


def test_without_a_password_none_is_required() -> None:
    server = RedisServer(SERVER.binary, 6379, SERVER.directory, SERVER.config_file)

    assert "requirepass" not in server.config()


def test_the_version_is_asked_of_the_binary() -> None:
    assert version(Path("/opt/redis-server")) == Command(("/opt/redis-server", "--version"))
