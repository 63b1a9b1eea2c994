"""Jobs that do to CloudBurst whatever a broken or malicious model might; a module of the storm's payload.

It runs in the payload's interpreter: standard library only. Each function with ``@ends`` is one *kind*, which
may spoil its own record; ``KINDS`` says how its job may end. Processes that are left behind sleep
for ``mark`` seconds: that is how they are found.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

KINDS: dict[str, tuple[str, ...]] = {}
"""Name of a function to the states that its job may end in."""

EITHER = ("finished", "failed")
Params = dict[str, Any]
Kind = Callable[[Params], Any]


def ends(*states: str) -> Callable[[Kind], Kind]:
    def known(function: Kind) -> Kind:
        KINDS[function.__name__] = states
        return function

    return known


# -- forged frames: a job finds the executor's own sockets ------------------------------------------------


def sockets(kind: int) -> list[socket.socket]:
    """Those of this process that are of that kind."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            candidate = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        if candidate.type == kind and candidate.family == socket.AF_UNIX:
            found.append(candidate)
        else:
            candidate.close()
    return found


def own_order() -> int:
    """The number by which the worker knows this job, from the executor's own variables; 0: not found."""
    frame = sys._getframe()
    while frame is not None:
        for value in list(frame.f_locals.values()):
            if isinstance(value, dict) and isinstance(value.get("order"), int):
                return int(value["order"])
        frame = frame.f_back
    return 0


def say(data: bytes) -> None:
    for control in sockets(socket.SOCK_STREAM):
        control.settimeout(5)
        with contextlib.suppress(OSError):
            control.sendall(data)


def frame(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">IB", len(body), kind[0]) + body


def done(value: str = "null", **header: Any) -> bytes:
    told = {"state": "finished", "started": time.time(), "duration": 0.1, "order": own_order(), "rss_mb": 1}
    told.update(header)
    return frame(
        b"D", json.dumps({k: v for k, v in told.items() if v is not None}).encode() + b"\n" + value.encode()
    )


NUMBERS = (float("nan"), float("inf"), -1e308, 1e308, 10**30, -5, "0.1", [], True, None)
"""What may stand where a number is meant."""
FAILED = {"state": "failed", "error": "e", "fingerprint": "f", "traceback": "t"}
FORGERIES: list[Callable[[], bytes]] = [
    *(partial(done, **{name: x}) for name in ("duration", "started", "rss_mb") for x in NUMBERS),
    *(partial(done, state=state) for state in ("stopped", "cancelled", "", 7, [], {}, None)),
    *(
        partial(done, **{**FAILED, name: text})
        for name in ("error", "fingerprint", "traceback")
        for text in ([], {}, 7, "x" * 10**6, "\ud800", "\0", None)
    ),
    *(partial(done, **FAILED, broken=broken) for broken in (True, "yes", 1)),
    *(partial(done, order=order) for order in (-1, 2**63, 2**64, 1.5, "0", [], None)),
    lambda: done(order=own_order() + 1),
    lambda: done(order=own_order() + 2),
    lambda: done(order=own_order() - 1),
    *(
        partial(done, value)
        for value in ("", "{", "NaN", "[" * 100_000 + "]" * 100_000, '"' + "x" * 70_000 + '"')
    ),
    *(partial(done, renew=renew) for renew in (7, [], "x" * 10**6, "\n\n", True)),
    *(
        partial(done, series=s)
        for s in ([], {"m": 7}, {"m": ["a", 1]}, {f"m{i}": [0, 1] for i in range(10**4)})
    ),
    lambda: frame(b"D", b""),
    lambda: frame(b"D", b"\xff\xfe\n\xff"),
    lambda: frame(b"D", b"[" * 100_000),
    lambda: frame(b"D", b"7\nnull"),
    lambda: frame(b"D", b'{"order": 1' + b"0" * 5000 + b"}\nnull"),
    lambda: frame(b"D", b'{"state": "finished"'),
    lambda: frame(b"D", b"x" * (3 << 20)),
    lambda: frame(b"P", b"m v=1\xff\n"),
    lambda: frame(b"P", b"no line protocol\n\n\0\n"),
    lambda: frame(b"P", b"m v=" + b"9" * 200_000),
    lambda: frame(b"S", b"m v=1"),
    lambda: frame(b"S", b"\xff" * 1000),
    lambda: frame(b"T", b"{}"),
    lambda: frame(b"?", b"{}"),
    lambda: frame(b"\0", b""),
    lambda: b"\0" * 100_000,
]
"""Each makes what a job writes into the executor's socket."""


@ends(*EITHER)
def forges_a_frame(params: Params) -> Any:
    say(FORGERIES[params["which"] % len(FORGERIES)]())
    return "after a forged frame"


@ends(*EITHER)
def forges_and_stays(params: Params) -> Any:
    """Its forged end comes first; what follows must not be taken for another job's."""
    say(done('"forged"'))
    time.sleep(0.3)
    return "and now the real end"


@ends(*EITHER)
def forges_many_ends(params: Params) -> Any:
    first = own_order()
    for order in range(first - 2, first + 20):
        say(done('"forged"', order=order))


@ends("failed")
def announces_four_gib(params: Params) -> None:
    say(struct.pack(">IB", 2**32 - 1, ord("D")) + b"{")
    for _ in range(200):
        say(b"x" * (1 << 20))


@ends("failed")
def never_ends_a_frame(params: Params) -> None:
    say(struct.pack(">IB", 60_000, ord("D")) + b"{")
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


@ends(*EITHER)
def floods_frames(params: Params) -> None:
    lines = frame(b"P", b"hostile v=1 1\n" * 1000)
    for _ in range(100):
        say(lines)


@ends(*EITHER)
def takes_the_queue(params: Params) -> None:
    """Reads what the worker has sent for later, and writes into it, too."""
    for queue in sockets(socket.SOCK_SEQPACKET):
        queue.setblocking(False)
        with contextlib.suppress(OSError):
            while queue.recv(1 << 16):
                pass
        with contextlib.suppress(OSError):
            queue.send(b"\0" * 8 + b"{}\n[]")


# -- output, points, values ------------------------------------------------------------------------------


@ends(*EITHER)
def floods_output(params: Params) -> None:
    block = b"\xff\0 no newline \r" * 5000
    for _ in range(400):
        os.write(1, block)
    sys.stdout.write("x" * 10_000_000)


@ends(*EITHER)
def floods_points(params: Params) -> None:
    from cloudburst import results

    for k in range(20_000):
        results.write("hostile", {"v": float(k)}, time=k + 1)


@ends(*EITHER)
def writes_into_result(params: Params) -> Any:
    """The measurement in which CloudBurst keeps what functions return, in another type."""
    from cloudburst import results

    results.write("result", {"peak": "high", "index": "none"})
    return {"peak": "high"}


@ends(*EITHER)
def writes_bad_points(params: Params) -> None:
    from cloudburst import results

    results.write(
        "bad\nmeasurement ,=", {"f\n": "x" * 100_000, "i": 2**80, "n": float("nan")}, tags={"": "\n"}
    )


@ends(*EITHER)
def changes_a_type(params: Params) -> None:
    from cloudburst import results

    results.write("hostile", {"v": "text where others write numbers"}, time=random.randrange(10**6))


@ends("failed")
def returns_depth(params: Params) -> Any:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    return value


@ends(*EITHER)
def returns_some_depth(params: Params) -> Any:
    value: Any = []
    for _ in range(980):
        value = {"a": value}
    return value


@ends("failed")
def returns_much(params: Params) -> Any:
    return "x" * 100_000_000


@ends(*EITHER)
def returns_odd_values(params: Params) -> Any:
    return {
        "\ud800": "\udfff",
        "nan": float("nan"),
        "inf": float("inf"),
        "big": 10**5000,
        "\0": "\x1b]0;\x07",
    }


@ends("failed")
def returns_itself(params: Params) -> Any:
    value: list[Any] = []
    value.append(value)
    return value


# -- exceptions ------------------------------------------------------------------------------------------


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Textless(Exception):
    def __str__(self) -> str:
        return None  # noqa: PLE0307 (on purpose)


@ends("failed")
def raises_much(params: Params) -> None:
    raise ValueError("x" * 100_000_000)


@ends("failed")
def raises_unprintable(params: Params) -> None:
    raise Unprintable


@ends("failed")
def raises_textless(params: Params) -> None:
    raise Textless


@ends("failed")
def raises_bare(params: Params) -> None:
    raise random.Random(params["n"]).choice(
        [BaseException, KeyboardInterrupt, GeneratorExit, SystemExit, StopIteration]
    )


@ends("failed")
def raises_lone_surrogates(params: Params) -> None:
    raise OSError(2, "\udcff\ud800", "\udcff\n\0\x1b[2J")


@ends("failed")
def recurses(params: Params) -> None:
    recurses(params)


@ends("failed")
def recurses_deep(params: Params) -> None:
    sys.setrecursionlimit(50_000)

    def down(n: int) -> int:
        return down(n + 1)

    down(0)


@ends("failed")
def chains_exceptions(params: Params) -> None:
    error: Exception = ValueError("the first")
    for n in range(5000):
        following = ValueError(f"{n}")
        following.__cause__ = error
        error = following
    raise error


# -- its own process -------------------------------------------------------------------------------------


@ends("failed")
def kills_itself(params: Params) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@ends("failed")
def crashes(params: Params) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


@ends(*EITHER)
def exits(params: Params) -> None:
    os._exit(params["n"] % 4)


@ends("failed")
def stops_itself(params: Params) -> None:
    """Its time limit ends it."""
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(600)


@ends(*EITHER)
def closes_output(params: Params) -> None:
    os.close(1)
    os.close(2)


@ends(*EITHER)
def closes_everything(params: Params) -> None:
    os.closerange(3, 64)


@ends(*EITHER)
def redirects_output(params: Params) -> None:
    log = os.open("own.log", os.O_RDWR | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout.write("into a file of its own\n")


@ends(*EITHER)
def covers_the_sockets(params: Params) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3, 32):
        if fd != null:
            try:
                os.fstat(fd)
            except OSError:
                continue
            os.dup2(null, fd)


@ends(*EITHER)
def replaces_streams(params: Params) -> None:
    sys.stdout.close()
    sys.stdout = sys.stderr = None


# -- what is left behind ---------------------------------------------------------------------------------


@ends(*EITHER)
def leaves_an_alarm(params: Params) -> None:
    signal.signal(signal.SIGALRM, lambda *_: os._exit(7))
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)


@ends(*EITHER)
def leaves_timers(params: Params) -> None:
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.2)
    signal.setitimer(signal.ITIMER_PROF, 0.2)


@ends(*EITHER)
def leaves_handlers(params: Params) -> None:
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1, signal.SIGPIPE, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


@ends(*EITHER)
def leaves_limits(params: Params) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (2, 2))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


@ends(*EITHER)
def leaves_a_wrong_world(params: Params) -> None:
    os.chdir("/")
    os.umask(0o777)
    os.environ.clear()
    os.environ["CLOUDBURST_INDEX"] = "9999"
    os.environ["HOSTILE"] = "1"
    sys.path.clear()
    socket.setdefaulttimeout(0.001)
    sys.settrace(lambda *_: None)


@ends(*EITHER)
def leaves_a_thread(params: Params) -> None:
    """It goes on for three seconds, and changes what all threads of a process share."""
    until = time.monotonic() + 3

    def spoil() -> None:
        while time.monotonic() < until:
            with contextlib.suppress(OSError, ValueError):
                os.chdir("/")
                sys.stdout.write("a thread that was left behind\n")
            time.sleep(0.001)

    threading.Thread(target=spoil, daemon=True).start()


@ends(*EITHER)
def leaves_a_bad_end(params: Params) -> None:
    atexit.register(time.sleep, 600)
    atexit.register(os.kill, os.getpid(), signal.SIGSTOP)


@ends(*EITHER)
def leaves_a_child(params: Params) -> None:
    subprocess.Popen(["sleep", params["mark"]])
    subprocess.Popen(f"timeout 90000 sleep {params['mark']}", shell=True)


@ends(*EITHER)
def leaves_a_session(params: Params) -> None:
    subprocess.Popen(["sleep", params["mark"]], start_new_session=True)


@ends(*EITHER)
def leaves_a_daemon(params: Params) -> None:
    """Forked twice, with a session of its own: no parent leads from it to us."""
    subprocess.run(["setsid", "sh", "-c", f"setsid sleep {params['mark']} & exit 0"], check=False)


@ends(*EITHER)
def leaves_a_nameless_daemon(params: Params) -> None:
    """As above, and without any variable of ours."""
    subprocess.run(
        ["setsid", "env", "-i", "sh", "-c", f"setsid sleep {params['mark']} & exit 0"], check=False
    )


@ends("failed")
def dies_with_children(params: Params) -> None:
    subprocess.Popen(["sleep", params["mark"]], start_new_session=True)
    subprocess.Popen(["sleep", params["mark"]])
    os.kill(os.getpid(), signal.SIGKILL)


@ends("failed")
def hangs_with_children(params: Params) -> None:
    subprocess.run(f"timeout 90000 sleep {params['mark']}", shell=True, check=False, start_new_session=True)


@ends(*EITHER)
def bombs(params: Params) -> None:
    """A bounded fork bomb: fifty processes, half of them with sessions of their own."""
    for n in range(50):
        subprocess.Popen(["sleep", params["mark"]], start_new_session=bool(n % 2), close_fds=False)


@ends(*EITHER)
def forks_itself(params: Params) -> None:
    """A copy of the executor, which still has all that it has."""
    if os.fork() == 0:
        os.setsid()
        os.execvp("sleep", ["sleep", params["mark"]])
    if os.fork() == 0:
        raise SystemExit(0)


# -- files -----------------------------------------------------------------------------------------------


@ends(*EITHER)
def writes_into_the_payload(params: Params) -> None:
    """Beside its model, as simulations do: the next job must not see it."""
    here = Path(__file__).parent
    for name in ("data.txt", "worker.py"):
        (here / name).write_text("spoiled")


@ends(*EITHER)
def replaces_payload_files(params: Params) -> None:
    here = Path(__file__).parent
    Path("new").write_text("spoiled")
    os.replace("new", here / "data.txt")


@ends(*EITHER)
def removes_its_directory(params: Params) -> None:
    os.rmdir(os.getcwd())


@ends(*EITHER)
def locks_its_directory(params: Params) -> None:
    Path("a/b/c").mkdir(parents=True)
    Path("a/b/c/file").write_text("x")
    Path("link").symlink_to("/")
    os.mkfifo("fifo")
    os.chmod("a/b", 0)
    os.chmod(".", 0)


@ends(*EITHER)
def makes_many_files(params: Params) -> None:
    for n in range(3000):
        Path(f"{n}-{'x' * 200}").touch()


def description(dice: random.Random, mark: str, kind: str = "") -> Params:
    """What makes ``worker.mixed`` run one of the kinds, any unless it is given."""
    which = dice.randrange(len(FORGERIES))
    return {"what": "hostile", "kind": kind or dice.choice(sorted(KINDS)), "which": which, "mark": mark}


def misbehave(params: Params) -> Any:
    """Run the kind that the description names."""
    return globals()[params["kind"]](params)


def called_back(*_: Any) -> None:
    """A callback that does nothing."""


def nothing(params: Params) -> None:
    """What a stock client asks for whose jobs' hashes are the hostile part."""
