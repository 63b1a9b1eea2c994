"""Real damage to real append-only files: at most the last transaction is lost, or the start is refused."""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from cloudburst.commands import repair_redis
from cloudburst.commands.redis_server import RedisServer as Settings
from tests.conftest import RedisServer, free_port, redis_binary
from tests.wait import wait_until

PAIRS = 40
SCRIPT = "for _, key in ipairs(KEYS) do redis.call('SET', key, ARGV[1]) end return 1"
"""Several writes in one step, as CloudBurst's own: a transaction in the file."""


@dataclass
class Written:
    """What a Redis has left that was killed when all was written."""

    directory: Path
    last: Path
    """The file that it appends to."""
    whole: bytes
    """What that file held."""
    before_last: int
    """Where the last transaction begins in it."""


def append_only_file(directory: Path) -> Path:
    parts = sorted((directory / "appendonlydir").glob("*.incr.aof"), key=lambda part: part.stat().st_mtime)
    return parts[-1] if parts else directory / "appendonly.aof"


@pytest.fixture(scope="module", params=["fresh", "rewritten"])
def original(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Written:
    """Pairs of keys, each pair one transaction; after a rewrite, half of them lie in a snapshot."""
    directory = tmp_path_factory.mktemp("redis")
    server = RedisServer(directory)
    server.start()
    client = server.client()
    client.config_set("appendfsync", "no")  # else a write may wait for the fsync of the one before
    sizes = []
    for n in range(PAIRS):
        client.eval(SCRIPT, 2, f"a{n}", f"b{n}", f"value-{n}\r\n" * 3)
        if n == PAIRS // 2 and request.param == "rewritten":
            fill_with_every_type(server)
            client.bgrewriteaof()
            wait_until(lambda: rewritten(client), 30, "the rewrite")
        client.incr("single")
        sizes.append(append_only_file(directory).stat().st_size)
    client.eval(SCRIPT, 2, "last-a", "last-b", "x" * 30)
    server.kill()
    last = append_only_file(directory)
    return Written(directory, last, last.read_bytes(), sizes[-1])


@pytest.fixture
def written(original: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    monkeypatch.setattr(os, "fsync", lambda _file: None)  # hundreds of them, and no power cut
    directory = tmp_path / "redis"
    shutil.copytree(original.directory, directory)
    last = directory / original.last.relative_to(original.directory)
    return Written(directory, last, original.whole, original.before_last)


def rewritten(client: redis.Redis) -> bool:
    said = client.info("persistence")
    return not said["aof_rewrite_in_progress"] and not said["aof_rewrite_scheduled"]


def fill_with_every_type(server: RedisServer) -> None:
    client = server.client()
    client.set("number", 123_456)
    client.set("long", "0123456789" * 10_000)
    client.set("passing", "x", px=10**9)
    client.rpush("list", *(f"{n}" * 50 for n in range(500)))
    client.sadd("set", *(f"m{n}" for n in range(600)))
    client.sadd("numbers", *range(100))
    client.zadd("scores", {f"m{n}": n / 3 for n in range(600)})
    client.zadd("few", {"a": 1.5})
    client.hset("hash", mapping={f"f{n}": "v" * 100 for n in range(600)})
    client.hset("small", mapping={"a": 1})
    for n in range(300):
        client.xadd("stream", {"n": n})
    client.xgroup_create("stream", "group", "0")
    client.xreadgroup("group", "reader", {"stream": ">"}, count=5)
    client.script_load("return 1")


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def repair(directory: Path, *options: str) -> Done:
    said, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        status = repair_redis.main("true", str(directory), *options)  # "true" tells no version
    return Done(status, said.getvalue(), complained.getvalue())


def values(directory: Path) -> dict[bytes, bytes] | None:
    """What Redis has after a start; None if it does not start."""
    log = directory.parent / "log"
    server = Settings(redis_binary(), free_port(), directory, directory.parent / "redis.conf")
    if subprocess.run(server.repair(sys.executable).argv, capture_output=True, check=False).returncode != 0:
        return None
    server.config_file.write_text(server.config())
    with log.open("w") as file:
        process = subprocess.Popen(server.command().argv, stdout=file)
    try:
        while process.poll() is None and "eady to accept" not in log.read_text(errors="replace"):
            time.sleep(0.005)
        if process.poll() is not None:
            return None
        client = RedisServer(directory)
        client.port = server.port
        keys = [key for kind in "ab" for n in range(PAIRS) for key in [f"{kind}{n}"]]
        keys += ["last-a", "last-b", "single"]
        found = zip(keys, client.client().mget(keys), strict=True)
        return {key.encode(): value for key, value in found if value is not None}
    finally:
        process.kill()
        process.wait()


ALL = {f"{kind}{n}".encode(): f"value-{n}\r\n".encode() * 3 for kind in "ab" for n in range(PAIRS)}
ALL |= {b"single": str(PAIRS).encode()}
LAST = {b"last-a": b"x" * 30, b"last-b": b"x" * 30}


def restore(written: Written) -> Iterator[None]:
    """Again and again the files as they were."""
    files = {path: path.read_bytes() for path in written.directory.rglob("*") if path.is_file()}
    while True:
        for path in written.directory.rglob("*"):
            if path.is_file() and path not in files:
                path.unlink()
        for path, content in files.items():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        yield


def test_a_whole_file_is_left_alone(written: Written) -> None:
    done = repair(written.directory)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert written.last.read_bytes() == written.whole
    assert values(written.directory) == ALL | LAST


def test_cut_at_every_byte_of_the_last_transaction_it_is_taken_off_and_kept(written: Written) -> None:
    for cut in range(written.before_last + 1, len(written.whole)):
        written.last.write_bytes(written.whole[:cut])

        done = repair(written.directory)

        assert done.returncode == 0, (cut, done.stderr)
        assert written.last.read_bytes() == written.whole[: written.before_last], cut
        (copy,) = written.last.parent.glob("*.taken-off-*")
        assert copy.read_bytes() == written.whole[written.before_last : cut]
        assert "ends with an unfinished script, which is taken off" in done.stdout
        assert str(copy) in done.stdout
        copy.unlink()
    assert values(written.directory) == ALL


@pytest.mark.parametrize("zeros", [1, 3, 4096, 200_000])
def test_zeros_at_the_end_are_taken_off(written: Written, zeros: int) -> None:
    for cut, left in [(len(written.whole), ALL | LAST), (len(written.whole) - 15, ALL)]:
        written.last.write_bytes(written.whole[:cut] + b"\0" * zeros)

        assert values(written.directory) == left
        for copy in written.last.parent.glob("*.taken-off-*"):
            copy.unlink()


def test_one_bad_byte_anywhere_costs_no_other_transaction(written: Written) -> None:
    dice = random.Random(1)
    restored = restore(written)
    refused = 0
    for _ in range(40):
        next(restored)
        at = dice.randrange(len(written.whole))
        damaged = bytearray(written.whole)
        damaged[at] ^= dice.randrange(1, 256)
        written.last.write_bytes(damaged)

        found = values(written.directory)

        if found is None:
            refused += 1
            assert written.last.read_bytes() == damaged
        else:  # within a value or a key, where nobody can tell; or in the last transaction
            lost = {key for key in ALL if key not in found}
            assert len(lost) <= 1, (at, lost)
    assert refused > 5


def test_every_length_that_is_too_large_by_one_bad_digit_costs_nothing(written: Written) -> None:
    """Redis takes what is behind such a length for unfinished, up to the end of the file."""
    for match in re.finditer(rb"[*$](\d+)\r\n", written.whole):
        for digits in (b"9" * len(match[1]), match[1] + b"99999"):
            damaged = written.whole[: match.start(1)] + digits + written.whole[match.end(1) :]
            if digits == match[1] or match.start() >= written.before_last:
                continue
            written.last.write_bytes(damaged)

            done = repair(written.directory)

            assert done.returncode == 1, (match, digits)
            assert written.last.read_bytes() == damaged


@pytest.mark.parametrize(
    "garbage", [b"garbage", b"*x", b"$3\r\nabc\r\n", b"*1\r\n$4\r\nEXEC\r\n", b"\r\n", b"\0\0x"]
)
def test_garbage_at_the_end_stops_the_start_and_nothing_is_changed(written: Written, garbage: bytes) -> None:
    written.last.write_bytes(written.whole + garbage)

    done = repair(written.directory)

    assert done.returncode == 1
    assert f"damaged at byte {len(written.whole):,}" in done.stderr
    assert written.last.read_bytes() == written.whole + garbage


def test_an_operator_can_give_up_what_stands_behind_the_damage(written: Written) -> None:
    damaged = written.whole[: written.before_last] + b"damage" + written.whole[written.before_last :]
    written.last.write_bytes(damaged)

    done = repair(written.directory, "--give-up")

    assert done.returncode == 0
    (copy,) = written.last.parent.glob("*.taken-off-*")
    assert copy.read_bytes() == damaged[written.before_last :]
    assert values(written.directory) == ALL


def test_damage_in_a_snapshot_stops_the_start(written: Written) -> None:
    files = [path for path in written.directory.rglob("*") if path.is_file()]
    snapshots = [path for path in files if path.read_bytes()[:5] == b"REDIS"]
    dice = random.Random(2)
    restored = restore(written)
    for snapshot in snapshots:
        end = snapshot.read_bytes().rfind(b"*2\r\n$6\r\nSELECT") % (snapshot.stat().st_size + 1)
        for _ in range(10):
            next(restored)
            damaged = bytearray(snapshot.read_bytes())
            damaged[dice.randrange(9, end)] ^= dice.randrange(1, 256)
            snapshot.write_bytes(damaged)

            assert values(written.directory) is None
            assert snapshot.read_bytes() == damaged


def command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


MULTI, EXEC, SET = command(b"MULTI"), command(b"EXEC"), command(b"SET", b"a", b"1")


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (SET + MULTI + SET, len(SET)),
        (SET + MULTI, len(SET)),
        (SET + command(b"multi") + SET, len(SET)),
        (SET + MULTI + SET + EXEC + b"#TS:1700000000\r\n" + SET[:-1], len(SET + MULTI + SET + EXEC) + 16),
        (SET + b"#TS:17", len(SET)),
        (b"#TS:1700000000\r\n" + SET, None),
        (MULTI + b"#TS:1700000000\r\n" + SET + EXEC, None),
        (MULTI, 0),
        (b"", None),
        (SET + command(b"SET", b"a", b"\0" * 9), None),
        (SET + command(b"SET", b"a", b"b" * 300_000)[:-1], len(SET)),
        (SET + command(b"SET", b"a", b"b" * 300_000), None),
    ],
)
def test_what_is_unfinished_is_known_by_its_own_bytes(
    tmp_path: Path, content: bytes, kept: int | None
) -> None:
    file = tmp_path / "appendonly.aof"
    file.write_bytes(content)

    done = repair(tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert file.read_bytes() == (content if kept is None else content[:kept])


@pytest.mark.parametrize(
    "content",
    [
        SET + EXEC,
        MULTI + MULTI + SET + EXEC,
        MULTI + SET + command(b"EXEB") + SET,  # its end is damaged: what follows is another
        SET + b"*0\r\n",
        SET + b"*3\r\n$3\r\nSET\r\n*1\r\n",
        SET + b"*1\n$4\r\nPING\r\n",
        SET + b"#no end" * 300,
        SET + MULTI + b"*2\r\n$6\r\nAPPEND\r\n$" + b"9" * 40 + b"\r\n" + SET + EXEC,
        b"REDIS",
        b"REDIS0009",
        b"REDIS0009\xfa\x81" + b"\xff" * 8,
    ],
)
def test_all_else_is_damage(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "appendonly.aof"
    file.write_bytes(content)

    done = repair(tmp_path)

    assert done.returncode == 1
    assert f"{file} is damaged at byte" in done.stderr
    assert "docs/troubleshooting.md" in done.stderr
    assert file.read_bytes() == content


def test_more_than_can_have_been_under_way_is_not_taken_off(tmp_path: Path) -> None:
    file = tmp_path / "appendonly.aof"
    file.write_bytes(SET)
    with file.open("r+b") as end:
        end.truncate(repair_redis.LIMIT + len(SET) + 1)

    assert "damaged" in repair(tmp_path).stderr


def listed(directory: Path, manifest: str, **files: bytes) -> None:
    (directory / "appendonlydir").mkdir()
    (directory / repair_redis.MANIFEST).write_text(manifest)
    for name, content in files.items():
        (directory / "appendonlydir" / name).write_bytes(content)


def stand_in(directory: Path, version: str) -> Path:
    program = directory / "redis-server"
    program.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0'\n")
    program.chmod(0o755)
    return program


def test_only_the_last_of_several_files_may_be_unfinished(tmp_path: Path) -> None:
    manifest = "file old seq 1 type h\nfile first seq 1 type i\nfile last seq 2 type i\n"
    listed(tmp_path, manifest, first=SET + SET[:-1], last=SET + SET[:-1])
    server = str(stand_in(tmp_path, "7.2.4"))

    with pytest.raises(repair_redis.RefusedError, match="first is damaged"):
        list(repair_redis.repair(server, tmp_path))
    (tmp_path / "appendonlydir/first").write_bytes(SET)
    assert len(list(repair_redis.repair(server, tmp_path))) == 1

    assert (tmp_path / "appendonlydir/last").read_bytes() == SET


@pytest.mark.parametrize(
    ("manifest", "said"), [("file gone seq 1 type i\n", "is missing"), ("\0\0\0", "is damaged")]
)
def test_a_list_of_files_that_is_wrong_stops_the_start(tmp_path: Path, manifest: str, said: str) -> None:
    listed(tmp_path, manifest)

    with pytest.raises(repair_redis.RefusedError, match=said):
        list(repair_redis.repair(str(stand_in(tmp_path, "7.2.4")), tmp_path))


def test_an_older_redis_does_not_start_with_an_empty_queue_beside_the_files_of_a_newer_one(
    tmp_path: Path,
) -> None:
    listed(tmp_path, "file last seq 2 type i\n", last=SET)

    with pytest.raises(repair_redis.RefusedError, match=r"is version 6\.2\.14.*install Redis 7"):
        list(repair_redis.repair(str(stand_in(tmp_path, "6.2.14")), tmp_path))


def test_it_takes_the_same_memory_for_a_large_file(tmp_path: Path) -> None:
    file = tmp_path / "appendonly.aof"
    with file.open("wb") as content:
        for _ in range(20):
            content.write(command(b"SET", b"large", b"x" * (10 << 20)))
        content.write(command(b"SET", b"large", b"x" * (60 << 20))[:-9])
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({64 << 20}, {64 << 20}))"
    script = f"{limited}; import runpy, sys; runpy.run_path(sys.argv[0], run_name='__main__')"
    script = f"import sys; sys.argv = sys.argv[1:]; {script}"

    argv = [sys.executable, "-I", "-c", script, repair_redis.__file__, str(redis_binary()), str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert "taken off: 62,914," in done.stdout
