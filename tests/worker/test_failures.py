"""What the worker is told of an exception, whatever the exception does: a real executor, its real frames."""

from __future__ import annotations

import sys

import pytest

from cloudburst.worker.inside import frames
from tests.worker import test_executor

payload_dir, start = test_executor.payload_dir, test_executor.start

MODULE = '''
import subprocess, sys, time

def long_message(params):
    raise ValueError("first " + "x" * 100_000_000 + " last")

def deep(params):
    sys.setrecursionlimit(10**6)
    def down(n):
        return down(n - 1) if n else 1 / 0
    down(200_000)

class Raising(Exception):
    def __str__(self):
        raise RuntimeError("no")

class NoText(Exception):
    def __str__(self):
        return None

class Endless(Exception):
    def __str__(self):
        while True:
            time.sleep(0.01)

class Lying(Exception):
    __class__ = property(lambda self: 1 / 0)
    __traceback__ = property(lambda self: 1 / 0)
    __cause__ = property(lambda self: 1 / 0)
    __notes__ = property(lambda self: 1 / 0)

class Strange(str):
    def __getitem__(self, item):
        raise RuntimeError("no")
    split = strip = encode = __len__ = __getitem__

class StrangeText(Exception):
    def __str__(self):
        return Strange("strange")

def hostile(params):
    raise globals()[params["kind"]]("told")

def surrogate_and_nul(params):
    raise ValueError("caf\\udce9 \\0 \\x1b[31m")

def odd_syntax(params):
    error = SyntaxError("odd")
    error.lineno, error.offset, error.text, error.filename = "x", object(), 5, ["a"]
    raise error

def notes(params):
    error = ValueError("noted")
    error.__notes__ = ["n" * 10_000_000, 5] * 1000
    raise error

def group(params):
    raise ExceptionGroup("all of them", [ValueError("one %d" % i) for i in range(100_000)])

def cycle(params):
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    raise first

def chain(params):
    error = None
    for i in range(1000):
        new = ValueError("link %d" % i)
        new.__cause__ = error
        error = new
    raise error

def child(params):
    code = "import sys; print('noise'); sys.exit('ERROR 110: no such pump')"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

def counting(params):
    raise OSError("wrote %d bytes of %s" % (params["n"], "x" * params["n"]))

class ApiException(Exception):
    """As InfluxDB's client raises it."""
    body = '{"code":"unprocessable","message":"dropped 507 points outside retention policy"}'
    def __str__(self):
        return "(422)\\nReason: Unprocessable Entity\\nHTTP response headers: {}\\n"

def wrapped(params):
    raise ApiException()

def titled(params):
    raise RuntimeError("\\n\\n===\\nerrors:\\npump P1 has no curve")

def multiline(params):
    raise ValueError("first line\\nsecond line")

def fine(params):
    return 1
'''


@pytest.fixture
def running(payload_dir, start):
    (payload_dir / "odd.py").write_text(MODULE)
    return start()


@pytest.mark.parametrize(
    ("function", "description", "error"),
    [
        ("odd.long_message", {}, "ValueError: first xxx"),
        ("odd.deep", {}, "ZeroDivisionError: division by zero"),
        ("odd.hostile", {"kind": "Raising"}, "Raising: <its __str__ raises RuntimeError>"),
        ("odd.hostile", {"kind": "NoText"}, "NoText: <its __str__ raises TypeError>"),
        ("odd.hostile", {"kind": "Endless"}, "Endless"),
        ("odd.hostile", {"kind": "Lying"}, "Lying: told"),
        ("odd.hostile", {"kind": "StrangeText"}, "StrangeText: strange"),
        ("odd.surrogate_and_nul", {}, "ValueError: caf\\udce9"),
        ("odd.odd_syntax", {}, "SyntaxError: odd"),
        ("odd.notes", {}, "ValueError: noted"),
        pytest.param(
            "odd.group",
            {},
            "ExceptionGroup: all of them",
            marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups"),
        ),
        ("odd.cycle", {}, "ValueError: first"),
        ("odd.chain", {}, "ValueError: link 999"),
    ],
)
def test_whatever_an_exception_does_it_is_a_failure_of_bounded_size(running, function, description, error):
    header, _ = running.call(function, description)

    assert header["state"] == "failed"
    assert header["error"].startswith(error)
    assert len(header["error"].encode()) <= frames.ERROR_LIMIT
    assert len(header["traceback"].encode()) <= frames.TRACEBACK_LIMIT
    assert running.call("odd.fine", {})[0]["state"] == "finished"


def test_the_ends_of_a_long_traceback_and_message_are_shown(running):
    deep = running.call("odd.deep", {})[0]["traceback"]
    message = running.call("odd.long_message", {})[0]["traceback"]

    assert 'odd.py", line' in deep
    assert "more calls ..." in deep
    assert deep.splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert "ValueError: first xxx" in message
    assert message.rstrip().endswith("last")


def test_what_a_failed_child_wrote_to_stderr_is_shown(running):
    header, _ = running.call("odd.child", {})

    assert header["error"].endswith("ERROR 110: no such pump")
    assert "The end of its stderr:\nERROR 110: no such pump" in header["traceback"]


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (
            "odd.wrapped",
            "ApiException: (422) Reason: Unprocessable Entity: dropped 507 points outside retention policy",
        ),
        ("odd.titled", "RuntimeError: === errors: pump P1 has no curve"),
        ("odd.multiline", "ValueError: first line"),
    ],
)
def test_the_one_line_is_the_one_that_tells_most(running, function, error):
    assert running.call(function, {})[0]["error"] == error


def test_failures_are_of_one_kind_by_their_place_not_by_their_text(running):
    counted = {running.call("odd.counting", {"n": n})[0]["fingerprint"] for n in (1, 20, 300)}
    large = {running.call("worker.large", {"bytes": n})[0]["fingerprint"] for n in (70_000, 80_000)}
    missing = {running.call("odd.nothing", {})[0]["fingerprint"]}

    assert len(counted) == len(large) == len(missing) == 1
    assert len(counted | large | missing) == 3
