"""What is the executor's own stays so, whatever a job does to its process."""

from __future__ import annotations

import json
import os
import re
import resource

import pytest

from cloudburst.worker.inside import frames
from cloudburst.worker.inside.output import shorten
from tests.wait import wait_until
from tests.worker import test_executor

payload_dir, start = test_executor.payload_dir, test_executor.start

MODULE = '''
import functools, logging, os, subprocess, sys, time
from os import system
from json import loads as read
from cloudburst import results

log = logging.getLogger("mine")
logging.getLogger("library").addHandler(logging.NullHandler())

def close(params):
    for begin, end in params["ranges"]:
        os.closerange(begin, end)
    return 1

def close_ours(params):
    print("closing", flush=True)
    os.closerange(0, 100_000)
    return 1

def take_ours(params):
    """Its own log where ours are."""
    file = os.open(params["path"], os.O_RDWR | os.O_CREAT)
    os.write(file, b"precious")
    for fd in sorted(map(int, os.listdir("/proc/self/fd"))):
        if fd > 2 and fd != file:
            try:
                os.dup2(file, fd)
            except OSError:
                pass
    return 1

def redirect(params):
    file = os.open(params["path"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    print("for my own log")
    os.system("echo from a child")
    sys.stdout.flush()
    return 1

def replace_streams(params):
    sys.stdout.close()
    sys.stderr = None
    return 1

def say(params):
    print("on stdout")
    print("on stderr", file=sys.stderr)
    os.system("echo from a child")
    log.info("in the log")
    logging.getLogger("library").info("of a library")
    raise ValueError("said")

def configure(params):
    logging.basicConfig(filename=params["path"], level=logging.DEBUG, force=params.get("force", False))
    log.debug("finely")
    logging.getLogger("library").info("of a library")
    return len(logging.root.handlers)

def bar(params):
    print("before the bar")
    for i in range(100_000):
        sys.stderr.write("\\r%3d%%|%s" % (i // 1000, "#" * 50))
    sys.stderr.write("\\n")
    raise ValueError("after the bar")

def much(params):
    print("the beginning")
    for i in range(params["lines"]):
        print("x" * 99)
    print("the end")
    raise ValueError("said much")

def hang(params):
    print("hanging", flush=True)
    while True:
        time.sleep(0.05)

def write(params):
    results.write(params["measurement"], params["fields"], time=params.get("time"))
    return {"peak": 1.5}

def write_series(params):
    for i in range(params["n"]):
        results.write("flow", {"v": i}, tags={"link": "a b"}, time=params["first"] + i)
        results.write("now", {"v": i})
    return 1

def write_many(params):
    for i in range(params["n"]):
        results.write("level", {"v": "x" * 1000}, time=i + 1)

def wide(params):
    return {"%05d" % i: i for i in range(5000)}

def plainly(params):
    return 1

@functools.lru_cache(maxsize=None)
def cached(a):
    return a

def _bare(function):
    def call(*args):
        return function(*args)
    return call

class Model:
    def __call__(self, params):
        return 1
    def run(self, params):
        return 1
    @classmethod
    def made(cls, params):
        return 1

part = functools.partial(plainly)
of_system = functools.partial(os.system)
model = Model()
'''


@pytest.fixture
def payload_of_mine(payload_dir):
    (payload_dir / "mine.py").write_text(MODULE)
    return payload_dir


@pytest.fixture(params=["reuse", "fork"])
def running(request, payload_of_mine, start):
    return start(isolation=request.param)


def is_well(running):
    header, output = running.call("mine.say", {})
    assert header["error"] == "ValueError: said"
    for words in (b"on stdout", b"on stderr", b"from a child", b"in the log", b"of a library"):
        assert output.count(words) == 1
    return True


@pytest.mark.parametrize(
    "ranges",
    [
        [(1, 2)],
        [(2, 3)],
        [(0, 3)],
        [(3, 64)],
        [(3, 1024)],
        [(0, resource.getrlimit(resource.RLIMIT_NOFILE)[0])],
    ],
)
def test_closing_what_it_has_not_opened_harms_neither_the_job_nor_the_next(running, ranges):
    limit = min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    ranges = [(begin, min(end, limit)) for begin, end in ranges]

    header, body = running.call("mine.close", {"ranges": ranges})

    assert (header["state"], body) == ("finished", b"1")
    assert is_well(running)


@pytest.mark.parametrize("function", ["mine.close_ours", "mine.take_ours"])
def test_a_job_that_takes_our_descriptors_all_the_same_is_told_so(payload_of_mine, start, tmp_path, function):
    path = tmp_path / "precious"
    fork, reuse = start(isolation="fork"), start()

    header, _ = fork.call(function, {"path": str(path)})
    assert reuse.call(function, {"path": str(path)}) is None

    assert "closed or replaced file descriptors that it had not opened" in header["error"]
    assert is_well(fork)
    assert reuse.process.kill() == os.EX_PROTOCOL
    assert not path.exists() or path.read_bytes() == b"precious"


def test_a_file_that_stdout_was_led_to_is_the_users_own(running, tmp_path):
    path = tmp_path / "own.log"

    assert running.call("mine.redirect", {"path": str(path)})[0]["state"] == "finished"

    assert is_well(running)
    assert path.read_text() == "for my own log\nfrom a child\n"


def test_streams_of_python_are_put_back(running):
    assert running.call("mine.replace_streams", {})[0]["state"] == "finished"

    assert is_well(running)


def test_logging_is_configured_as_a_job_says_each_time(running, tmp_path):
    for job in range(2):
        path = tmp_path / f"run-{job}.log"
        running.call("mine.configure", {"path": str(path)})
        assert path.read_text() == "DEBUG:mine:finely\nINFO:library:of a library\n"
    assert is_well(running)


def test_a_progress_bar_counts_once(running):
    _, output = running.call("mine.bar", {})

    assert output == b"before the bar\n 99%|" + b"#" * 50 + b"\n"


def test_both_ends_of_what_a_job_prints_are_kept_also_where_the_worker_empties_the_file(
    payload_of_mine, start
):
    running = start()
    running.start("mine.hang")
    wait_until(lambda: b"hanging" in running.process.output_tail(), what="the job to start")
    os.write(running.process.output, b"y" * 5_000_000)
    running.process.cut_output()
    os.write(running.process.output, b"z" * 2_000_000)
    running.process.cut_output()
    os.write(running.process.output, b"the end")

    kept = running.process.output_tail()

    assert kept.startswith(b"hanging\nyyy")
    assert kept.endswith(b"zzzthe end")
    assert len(kept) <= frames.OUTPUT_LIMIT
    (left_out,) = re.findall(rb"\n\.\.\. (\d+) bytes left out", kept)
    assert int(left_out) + len(kept) == pytest.approx(7_000_015, abs=200)


def test_what_is_short_is_not_shortened():
    assert shorten(b"a\r\nb\r\n") == b"a\r\nb\r\n"
    assert shorten(b"10%\r20%\r") == b"20%\r"
    assert shorten(b"x" * frames.OUTPUT_LIMIT) == b"x" * frames.OUTPUT_LIMIT


def test_where_a_job_hangs_is_told_by_its_own_process(running):
    running.start("mine.hang")
    wait_until(lambda: b"hanging" in running.process.output_tail(), what="the job to start")

    running.process.dump_stack()

    wait_until(lambda: b"in hang" in running.process.output_tail(), what="the stack")
    assert b"in _wait" not in running.process.output_tail()


@pytest.mark.parametrize(
    ("measurement", "fields", "error"),
    [
        ("result", {"peak": "high"}, "ValueError: measurement 'result': CloudBurst writes this one itself"),
        ("cloudburst_node", {"a": 1}, "ValueError: measurement 'cloudburst_node'"),
        ("text", {"a": "x" * 70_000}, "ValueError: a point of measurement text has 700"),
    ],
)
def test_points_that_cannot_be_are_refused_where_they_are_written(running, measurement, fields, error):
    header, _ = running.call("mine.write", {"measurement": measurement, "fields": fields})

    assert header["error"].startswith(error)
    assert 'mine.py", line' in header["traceback"]


def test_series_and_their_times_are_told_where_the_times_were_given(running):
    header, _ = running.call("mine.write_series", {"n": 3, "first": 10**18})

    assert header["series"] == {"flow,link=a\\ b": (10**18, 10**18 + 2)}


def test_frames_of_points_stay_below_their_limit(running):
    running.call("mine.write_many", {"n": 5000})

    assert len(running.points) > 50
    assert max(map(len, running.points)) < frames.POINTS_FRAME_LIMIT
    assert sum(chunk.count(b"\n") for chunk in running.points) == 5000 + 1


def test_a_summary_that_does_not_fit_costs_nothing(running):
    header, body = running.call("mine.wide", {})

    assert header["state"] == "finished"
    assert len(json.loads(body)) == 5000


@pytest.mark.parametrize(
    "function", ["os.system", "subprocess.run", "system", "read", "of_system", "results.write"]
)
def test_only_functions_that_the_payload_defines_are_run(running, function):
    header, _ = running.call("mine." + function, "true")

    assert "only the payload's own functions are run" in header["error"]


@pytest.mark.parametrize("function", ["plainly", "cached", "part", "model", "model.run", "Model.made"])
def test_whatever_the_payload_wraps_is_its_own(running, function):
    assert running.call("mine." + function, 1)[0]["state"] == "finished"


def test_a_function_that_an_installed_decorator_wraps_is_the_payloads(payload_of_mine, start, tmp_path):
    library = tmp_path / "site" / "levee.py"
    library.parent.mkdir()
    library.write_text(
        "class Dispatcher:\n"
        "    def __init__(self, py_func): self.py_func = py_func\n"
        "    def __call__(self, *args): return self.py_func(*args)\n"
        "def bare(function):\n    def call(*args): return function(*args)\n    return call\n"
        "def own(*args): return 1\n"
    )
    (payload_of_mine / "decorated.py").write_text(
        f"import sys\nsys.path.append({str(library.parent)!r})\nimport levee\n"
        "from levee import own\n"
        "@levee.Dispatcher\ndef jitted(params): return 1\n"
        "@levee.bare\ndef wrapped(params): return 1\n"
    )
    running = start()

    assert running.call("decorated.jitted", 1)[0]["state"] == "finished"
    assert running.call("decorated.wrapped", 1)[0]["state"] == "finished"
    assert "not defined in the payload but in 'levee'" in running.call("decorated.own", 1)[0]["error"]


def test_variables_of_jobs_do_not_make_the_executor_grow(payload_of_mine, start):
    (payload_of_mine / "seen.py").write_text(
        "import os, subprocess\n"
        "def seen(params):\n"
        "    said = subprocess.check_output('echo $CLOUDBURST_JOB $CLOUDBURST_INDEX', shell=True)\n"
        "    found = os.environ['CLOUDBURST_JOB'], os.getenv('CLOUDBURST_INDEX')\n"
        "    return [said.decode().split(), *found]\n"
        "def change(params):\n"
        "    os.environ['CLOUDBURST_INDEX'] = 'mine'\n"
        "    del os.environ['CLOUDBURST_JOB']\n"
    )
    running = start()

    first = json.loads(running.call("seen.seen", {})[1])
    running.call("seen.change", {})
    third = json.loads(running.call("seen.seen", {})[1])

    assert first == [["e-1-1", "1"], "e-1-1", "1"]
    assert third == [["e-1-3", "3"], "e-1-3", "3"]
