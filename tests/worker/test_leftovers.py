"""What a job changes of its executor is put back before the next one, or the executor is to be renewed."""

from __future__ import annotations

import json
import os
import sys

import pytest

from tests.worker.test_executor import Running

MODULE = '''
import asyncio, atexit, decimal, faulthandler, gc, locale, logging, os, resource, signal, socket, sys
import subprocess, threading, time, warnings, tempfile

warnings.filterwarnings("ignore", message="of the module")
os.environ["OF_THE_MODULE"] = "1"
logging.getLogger("of.the.module").setLevel(logging.DEBUG)
decimal.getcontext().prec = 20
signal.signal(signal.SIGUSR2, lambda *_: None)

OF_JOBS = ["TMPDIR", "TEMP", "TMP"]


def observe(job):
    """What a job finds."""
    return {
        "handlers": [repr(signal.getsignal(n)) for n in (1, 10, 11, 12, 14, 15)],
        "timers": [signal.getitimer(n)[0] for n in (0, 1, 2)],
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "cwd": os.listdir(),
        "environ": {n: v for n, v in os.environ.items() if n[:11] != "CLOUDBURST_" and n not in OF_JOBS},
        "temp": tempfile.gettempdir() == os.getcwd(),
        "hour": time.localtime(0).tm_hour,
        "umask": _umask(),
        "locale": locale.setlocale(locale.LC_ALL),
        "filters": [repr(f) for f in warnings.filters],
        "showwarning": repr(warnings.showwarning),
        "logging": {
            n: [logger.level, logger.propagate, logger.disabled, len(logger.handlers)]
            for n, logger in [("", logging.root), *logging.root.manager.loggerDict.items()]
            if isinstance(logger, logging.Logger) and not n.startswith("asyncio") and "new" not in n
        },
        "disabled": logging.root.manager.disable,
        "new": len(logging.getLogger("new").handlers),
        "streams": [repr(s) for s in (sys.stdin, sys.stdout, sys.stderr)],
        "hooks": [repr(h) for h in (sys.excepthook, sys.gettrace(), sys.getprofile(), threading.excepthook)],
        "limits": [sys.getrecursionlimit(), gc.isenabled(), gc.get_threshold(), sys.getswitchinterval()],
        "timeout": socket.getdefaulttimeout(),
        "decimal": [decimal.getcontext().prec, decimal.getcontext().rounding, decimal.Decimal(1) / 7 > 0],
        "resources": [resource.getrlimit(n) for n in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)],
        "faulthandler": faulthandler.is_enabled(),
        "loop": asyncio.new_event_loop().close() or type(asyncio.get_event_loop_policy()).__name__,
        "path": sys.path,
        "argv": sys.argv,
        "cpus": sorted(os.sched_getaffinity(0)),
        "nice": os.nice(0),
    }


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def alarm_left(job):
    signal.signal(signal.SIGALRM, lambda *_: 1 / 0)
    signal.alarm(1)
    faulthandler.dump_traceback_later(1)


def itimers(job):
    for timer, number in ((0, signal.SIGALRM), (1, signal.SIGVTALRM), (2, signal.SIGPROF)):
        signal.signal(number, lambda *_: 1 / 0)
        signal.setitimer(timer, 0.3, 0.3)


def blocked(job):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM, signal.SIGTERM])
    signal.alarm(1)
    os.kill(os.getpid(), signal.SIGTERM)
    while signal.SIGALRM not in signal.sigpending():
        time.sleep(0.01)


def handlers(job):
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGSEGV):
        signal.signal(number, signal.SIG_IGN)
    faulthandler.disable()


def directory(job):
    os.chdir("/")


def directory_gone(job):
    os.mkdir("sub")
    os.chdir("sub")
    os.rmdir("../sub")


def environment(job):
    os.environ.clear()
    os.environ["NEW"] = "1"
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()


def another_environ(job):
    os.environ = {"PATH": "/nowhere"}


def umask(job):
    os.umask(0o777)


def locales(job):
    locale.setlocale(locale.LC_ALL, "C.UTF-8" if locale.setlocale(locale.LC_ALL) == "C" else "C")
    locale.setlocale(locale.LC_NUMERIC, "C")


def warned(job):
    warnings.simplefilter("error")
    warnings.showwarning = print
    logging.captureWarnings(True)


def warned_within(job):
    warnings.catch_warnings().__enter__()
    warnings.simplefilter("error")


def logged(job):
    logging.disable(logging.CRITICAL)
    logging.root.setLevel(logging.CRITICAL)
    logging.getLogger("of.the.module").setLevel(logging.CRITICAL)
    logging.getLogger("of.the.module").addHandler(logging.FileHandler("run.log"))
    logging.getLogger("of.the.module").propagate = False
    logging.getLogger("new").addHandler(logging.StreamHandler())
    logging.root.addHandler(logging.FileHandler("root.log"))


def logging_configured(job):
    import logging.config

    logging.config.dictConfig({"version": 1, "root": {"handlers": [], "level": "ERROR"}})


def streams(job):
    sys.stdout = open("out", "w")
    sys.stderr = None
    sys.stdin = None
    sys.excepthook = threading.excepthook = print


def traced(job):
    sys.setprofile(lambda *_: None)
    threading.settrace(lambda *_: None)
    sys.settrace(lambda *_: None)


def limits(job):
    sys.setrecursionlimit(300)
    gc.disable()
    gc.set_threshold(1)
    gc.set_debug(gc.DEBUG_SAVEALL)
    sys.setswitchinterval(1.0)
    socket.setdefaulttimeout(0.1)
    decimal.getcontext().prec = 3
    decimal.getcontext().traps[decimal.Inexact] = True


def another_decimal(job):
    decimal.setcontext(decimal.Context(prec=2, traps=[decimal.Inexact]))


def resources(job):
    resource.setrlimit(resource.RLIMIT_NOFILE, (20, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def paths(job):
    sys.path = ["/nowhere"]
    sys.argv[:] = ["something", "else"]


def paths_within(job):
    sys.path.insert(0, os.getcwd())
    sys.argv = []


def cpus(job):
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])


def timer(job):
    threading.Timer(0.5, os._exit, [3]).start()


def loop(job):
    async def nothing():
        return None

    asyncio.run(nothing())
    asyncio.set_event_loop(asyncio.new_event_loop())


def loop_of_old_code(job):
    """As it works in a process of its own (until Python 3.14)."""
    first = asyncio.get_event_loop_policy().get_event_loop()
    first.run_until_complete(asyncio.sleep(0))
    first.close()
    return True


def busy_thread(job):
    threading.Thread(target=forever, daemon=True).start()


def forever():
    while True:
        time.sleep(0.01)


def idle_thread(job):
    threading.Thread(target=threading.Event().wait, daemon=True).start()


def ending_thread(job):
    threading.Thread(target=lambda: time.sleep(0.05)).start()


KEPT = []


def open_files(job):
    KEPT.extend(open(os.devnull) for _ in range(job["files"]))


def open_files_in_a_cycle(job):
    for _ in range(40):
        cycle = [open(os.devnull)]
        cycle.append(cycle)
    return len(os.listdir("/proc/self/fd"))


def listens(job):
    KEPT.append(socket.create_server(("127.0.0.1", 0)))


def less_priority(job):
    os.nice(1)
'''

SPOILERS = [
    "alarm_left",
    "itimers",
    "blocked",
    "handlers",
    "directory",
    "directory_gone",
    "environment",
    "another_environ",
    "umask",
    "locales",
    "warned",
    "warned_within",
    "logged",
    "logging_configured",
    "streams",
    "traced",
    "limits",
    "another_decimal",
    "resources",
    "paths",
    "paths_within",
    "cpus",
    "timer",
    "loop",
    "idle_thread",
    "ending_thread",
]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at what only Linux has")


@pytest.fixture
def start(tmp_path):
    payload = tmp_path / "payload"
    payload.mkdir()
    (payload / "spoils.py").write_text(MODULE)
    started: list[Running] = []

    def start(**settings) -> Running:
        started.append(Running(tmp_path / f"slot-{len(started)}", payload, **settings))
        return started[-1]

    yield start
    for running in started:
        running.process.close()


def _value(answer):
    header, body = answer
    assert header["state"] == "finished", header
    return json.loads(body)


@pytest.mark.parametrize("how", SPOILERS)
def test_the_next_job_finds_what_the_one_before_has_found(start, how):
    running = start()
    before = _value(running.call("spoils.observe", {}))

    header, _ = running.call(f"spoils.{how}", {})

    assert header["state"] == "finished", header
    assert header.get("renew", "") == ""
    assert _value(running.call("spoils.observe", {})) == before
    running.process.dump_stack()
    assert _value(running.call("spoils.observe", {})) == before


def test_a_job_that_fails_leaves_nothing_either(start):
    running = start()
    before = _value(running.call("spoils.observe", {}))

    header, _ = running.call("spoils.resources", {"no": "such"}, 1)

    assert header["state"] == "failed"
    assert _value(running.call("spoils.observe", {})) == before


def test_each_job_may_ask_for_the_event_loop_as_in_a_process_of_its_own(start):
    running = start()

    assert all(_value(running.call("spoils.loop_of_old_code", {})) for _ in range(3))


def test_a_thread_that_runs_the_payloads_code_costs_the_executor(start):
    running = start()

    header, _ = running.call("spoils.busy_thread", {})

    assert header["state"] == "finished"
    assert "thread" in header["renew"]


def test_a_socket_that_listens_costs_the_executor(start):
    header, _ = start().call("spoils.listens", {})

    assert "listens" in header["renew"]


def test_open_files_cost_the_executor_when_they_are_many(start):
    running = start()

    renew = [running.call("spoils.open_files", {"files": 20})[0].get("renew", "") for _ in range(4)]

    assert renew[:3] == ["", "", ""]
    assert "80 files" in renew[3]


def test_files_that_only_wait_for_the_collector_are_closed(start):
    running = start()

    counts = [_value(running.call("spoils.open_files_in_a_cycle", {})) for _ in range(5)]

    assert max(counts) < counts[0] + 40


@pytest.mark.skipif(os.geteuid() == 0, reason="root may raise its priority again")
def test_what_cannot_be_put_back_costs_the_executor(start):
    header, _ = start().call("spoils.less_priority", {})

    assert "priority" in header["renew"]
