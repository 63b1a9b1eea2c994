"""A TCP proxy between a worker and Redis that knows our scripts and can do harm at exact points.

It reads whole requests and whole replies, so that it knows which call a reply answers, on any number of
connections and with any number of calls in flight. What a test wants to happen is a rule: a script (or a
plain command), a moment, and an action.

==========  =======================================================================================
moment      what is true when the action is called
==========  =======================================================================================
BEFORE      the worker has sent the call; Redis does not have it
ANSWERED    Redis has done it and answered; the worker does not have the answer
AFTER       the answer is on its way to the worker
==========  =======================================================================================
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from importlib import resources
from typing import BinaryIO

from cloudburst.rqwire import scripts

Moment = Enum("Moment", ["BEFORE", "ANSWERED", "AFTER"])
BEFORE, ANSWERED, AFTER = Moment

ANY = "*"
FOREVER = math.inf

_NOTHING = re.compile(rb"\*0\r\n|\*-1\r\n|_\r\n|\*2\r\n\*0\r\n\*0\r\n|\*3\r\n:\d+\r\n:\d+\r\n\*0\r\n")
"""Replies that say nothing: no rows, nil, no rows twice (reap), and no rows beside two numbers (claim)."""

HOLD_LIMIT_S = 60.0
"""A held call goes on after so long, so that a test that fails does not hang."""


def script_names() -> list[str]:
    """All scripts of the package."""
    files = (resources.files("cloudburst.rqwire") / "lua").iterdir()
    return sorted(
        f.name.removesuffix(".lua") for f in files if f.name.endswith(".lua") and "prelude" not in f.name
    )


def _digests() -> dict[bytes, str]:
    return {hashlib.sha1(scripts.source(name).encode()).hexdigest().encode(): name for name in script_names()}


@dataclass
class Call:
    """One request, and its reply once there is one."""

    name: str
    """The script's name; for anything else the command in capitals."""
    args: list[bytes]
    """Of a script: its ARGV."""
    raw: bytes
    reply: bytes = b""

    @property
    def fruitful(self) -> bool:
        """Whether Redis answered with more than nothing (or has not answered): a claim that got jobs, say."""
        return not _NOTHING.fullmatch(self.reply)


class Cut(Exception):
    """Raised by an action: the connection breaks here, and what was under way on it is lost."""


Action = Callable[[Call], object]


def cut(_call: Call) -> None:
    """An action: break the connection, both ways."""
    raise Cut


@dataclass
class Rule:
    """Calls ``action`` with the next ``times`` calls of ``names`` at ``moment`` for which ``only`` holds."""

    names: frozenset[str]
    moment: Moment
    action: Action
    only: Callable[[Call], bool]
    times: float
    done: int = 0
    seen: threading.Event = field(default_factory=threading.Event)

    def applies(self, call: Call, moment: Moment) -> bool:
        return (
            self.moment is moment
            and self.done < self.times
            and (call.name in self.names or ANY in self.names)
            and self.only(call)
        )


class Hold:
    """An action: stop the call here until ``release``; ``release(lost=True)`` breaks its connection."""

    def __init__(self) -> None:
        self.seen = threading.Event()
        self.call: Call | None = None
        self._go = threading.Event()
        self._lost = False

    def __call__(self, call: Call) -> None:
        self.call = call
        self.seen.set()
        self._go.wait(HOLD_LIMIT_S)
        if self._lost:
            raise Cut

    def wait(self, timeout_s: float = 20) -> Call:
        """Until the call is held here."""
        assert self.seen.wait(timeout_s), "the call that is to be held never came"
        assert self.call is not None
        return self.call

    def release(self, *, lost: bool = False) -> None:
        self._lost = lost
        self._go.set()


class Proxy:
    """Listens on a port of its own; ``url`` is what a worker is given in place of Redis' own address."""

    def __init__(self, redis_port: int) -> None:
        self._redis_port = redis_port
        self._digests = _digests()
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._connections: set[_Connection] = set()
        self._holds: list[Hold] = []
        self._refusing = False
        self.calls: Counter[str] = Counter()
        """Forwarded calls by name."""
        self.cuts: Counter[str] = Counter()
        """Calls at which a connection was broken, by name."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.url = f"redis://127.0.0.1:{self.port}/0"
        threading.Thread(target=self._accept, name=f"proxy-{self.port}", daemon=True).start()

    def when(
        self,
        names: str | Iterable[str],
        moment: Moment,
        action: Action,
        *,
        only: Callable[[Call], bool] = lambda call: True,
        times: float = 1,
    ) -> Rule:
        """Add a rule; rules are tried in the order in which they were added, and the first that fits acts."""
        wanted = frozenset([names]) if isinstance(names, str) else frozenset(names)
        rule = Rule(wanted, moment, action, only, times)
        with self._lock:
            self._rules.append(rule)
        return rule

    def hold(
        self,
        names: str | Iterable[str],
        moment: Moment,
        *,
        only: Callable[[Call], bool] = lambda call: True,
        times: float = 1,
    ) -> Hold:
        """Hold the next call of ``names`` (or all of them, with ``times=math.inf``) at ``moment``."""
        hold = Hold()
        self._holds.append(hold)
        self.when(names, moment, hold, only=only, times=times)
        return hold

    def behave(self) -> None:
        """Forget all rules, let go of what is held, let everybody in."""
        with self._lock:
            self._rules.clear()
            self._refusing = False
        for hold in self._holds:
            hold.release()
        self._holds.clear()

    def partition(self) -> None:
        """Break all connections and refuse new ones until ``behave``."""
        self._refusing = True
        self.disconnect()

    def disconnect(self) -> None:
        """Break all connections; new ones are let in."""
        for connection in list(self._connections):
            connection.close()

    def close(self) -> None:
        self.behave()
        self._refusing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.disconnect()

    # -- connections -----------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._refusing:
                    raise ConnectionRefusedError
                theirs = socket.create_connection(("127.0.0.1", self._redis_port), timeout=5)
            except OSError:
                _reset(ours)
                continue
            theirs.settimeout(None)
            self._connections.add(_Connection(self, ours, theirs))

    def forget(self, connection: _Connection) -> None:
        self._connections.discard(connection)

    def name_of(self, request: list[bytes]) -> tuple[str, list[bytes]]:
        """The script's name and its arguments, or the command and all that follows."""
        command = request[0].upper()
        if command == b"EVALSHA" and request[1] in self._digests:
            return self._digests[request[1]], request[3 + int(request[2]) :]
        if command == b"EVAL":
            digest = hashlib.sha1(request[1]).hexdigest().encode()
            if digest in self._digests:
                return self._digests[digest], request[3 + int(request[2]) :]
        return command.decode(), request[1:]

    def act(self, call: Call, moment: Moment) -> None:
        """Do what the first rule says that applies; raises Cut."""
        with self._lock:
            rule = next((rule for rule in self._rules if rule.applies(call, moment)), None)
            if rule is None:
                return
            rule.done += 1
        try:
            rule.action(call)
        except Cut:
            self.cuts[call.name] += 1
            raise
        finally:
            rule.seen.set()


class _Connection:
    """One connection of a worker and its counterpart to Redis; a thread for each direction."""

    def __init__(self, proxy: Proxy, ours: socket.socket, theirs: socket.socket) -> None:
        self._proxy = proxy
        self._ours, self._theirs = ours, theirs
        self._under_way: deque[Call] = deque()
        self._closed = threading.Event()
        for end in (ours, theirs):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for target in (self._requests, self._replies):
            threading.Thread(target=self._run, args=(target,), daemon=True).start()

    def close(self) -> None:
        """Break both sides: the worker sees its connection reset."""
        if not self._closed.is_set():
            self._closed.set()
            _reset(self._ours)
            _reset(self._theirs)
            self._proxy.forget(self)

    def _run(self, pump: Callable[[], None]) -> None:
        try:
            pump()
        except (OSError, EOFError, ValueError, Cut):
            pass
        finally:
            self.close()

    def _requests(self) -> None:
        stream = self._ours.makefile("rb", 1 << 16)
        while True:
            request, raw = read_request(stream)
            name, args = self._proxy.name_of(request)
            call = Call(name, args, raw)
            self._proxy.act(call, BEFORE)
            self._proxy.calls[name] += 1
            self._under_way.append(call)
            self._theirs.sendall(raw)

    def _replies(self) -> None:
        stream = self._theirs.makefile("rb", 1 << 16)
        while True:
            reply = read_reply(stream)
            if reply[:1] == b">":  # pushed: answers no call
                self._ours.sendall(reply)
                continue
            call = self._under_way.popleft()
            call.reply = reply
            self._proxy.act(call, ANSWERED)
            self._ours.sendall(reply)
            self._proxy.act(call, AFTER)


def _reset(end: socket.socket) -> None:
    """Close a connection so that the other side notices at once, whatever is still to be read."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        end.close()


# -- RESP, as far as it takes to find where a request or a reply ends: redis.io/docs/reference/protocol-spec


def _line(stream: BinaryIO) -> bytes:
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError
    return line


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data


def read_request(stream: BinaryIO) -> tuple[list[bytes], bytes]:
    """The next request, in parts and as it came. Raises EOFError at the end."""
    head = _line(stream)
    if head[:1] != b"*":
        return head.split(), head
    parts, raw = [], [head]
    for _ in range(int(head[1:])):
        size = _line(stream)
        data = _exactly(stream, int(size[1:]) + 2)
        parts.append(data[:-2])
        raw += [size, data]
    return parts, b"".join(raw)


def read_reply(stream: BinaryIO) -> bytes:
    """The next reply, RESP2 or RESP3, as it came. Raises EOFError at the end."""
    head = _line(stream)
    kind = head[:1]
    if kind in b"$=!":
        size = int(head[1:])
        return head if size < 0 else head + _exactly(stream, size + 2)
    if kind in b"*~>":
        return head + b"".join([read_reply(stream) for _ in range(max(int(head[1:]), 0))])
    if kind == b"%":
        return head + b"".join([read_reply(stream) for _ in range(2 * int(head[1:]))])
    if kind == b"|":  # attributes come before the reply they belong to
        return head + b"".join([read_reply(stream) for _ in range(2 * int(head[1:]) + 1)])
    return head
