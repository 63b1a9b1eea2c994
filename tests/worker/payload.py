"""The payload of the worker's tests: one function for everything that user code may do."""

MODULE = '''
import ctypes, json, logging, os, signal, subprocess, sys, tempfile, time
from pathlib import Path

CALLS = 0

def add(params):
    global CALLS
    CALLS += 1
    return {"sum": params["a"] + params["b"], "calls": CALLS, "pid": os.getpid()}

def echo(*args, **kwargs):
    return [list(args), kwargs]

def place(params):
    Path("temp.inp").write_text("x")
    found = sorted(os.listdir("."))
    with tempfile.NamedTemporaryFile() as file:
        return {"cwd": os.getcwd(), "found": found, "temp": os.path.dirname(file.name)}

def leave_a_file(params):
    Path("left.txt").write_text("left")
    raise RuntimeError("failed")

def odd_names(params):
    return {"time": 1, "": 2, "index": 9, "huge": 10 ** 400, "a\\nb": 3, "fine": 1}

def environment(params):
    return {k: v for k, v in os.environ.items()}

def say(params):
    print("to stdout")
    print("to stderr", file=sys.stderr)
    os.system("echo from a child")
    logging.getLogger("mine").info("to the log")
    raise ValueError("after %s" % params["n"])

def exit(params):
    sys.exit(3)

def hard_exit(params):
    print("last words", flush=True)
    os._exit(3)

def crash(params):
    print("last words", flush=True)
    ctypes.string_at(0)

def hang(params):
    print("hanging", flush=True)
    while True:
        time.sleep(0.05)

def wait_for(params):
    while not os.path.exists(params["path"]):
        time.sleep(0.02)

def swallow(params):
    while True:
        try:
            time.sleep(0.05)
        except BaseException:
            pass

def fill_memory(params):
    blocks = []
    while True:
        blocks.append(b"x" * (8 << 20))

def print_much(params):
    line = "x" * 99 + "\\n"
    for _ in range(params["mb"] * 10_000):
        sys.stdout.write(line)
    print("the end")
    if params.get("fail"):
        raise RuntimeError("done printing")
    return params["mb"]

def not_json(params):
    return {"a": object()}

def disturb(params):
    import socket, struct
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            socket.socket(fileno=os.dup(fd)).sendall(struct.pack(">IB", 2, ord("D")) + b"{}")
        except OSError:
            pass
    time.sleep(5)

def undecodable(params):
    raise ValueError(os.fsdecode(b"caf\\xe9.inp"))

def large(params):
    return "x" * params["bytes"]

def numpy_like(params):
    class Scalar:
        def tolist(self):
            return 4.5
    return {"x": Scalar()}

def sleep(params):
    time.sleep(params["s"])
    return params["s"]

def mark(params):
    """Leave a mark that says that we started, then sleep."""
    Path(params["file"]).open("a").write(json.dumps([os.getpid(), os.environ["CLOUDBURST_ATTEMPT"]]) + "\\n")
    time.sleep(params.get("s", 0))
    return os.environ["CLOUDBURST_ATTEMPT"]

def mark_and_fail(params):
    mark(params)
    raise RuntimeError("marked")

def points(params):
    from cloudburst import results
    for i in range(params["n"]):
        results.write("level", {"value": float(i)}, tags={"tank": "1"}, time=i + 1)
    if params.get("fail"):
        raise RuntimeError("after the points")
    return {"n": params["n"]}

def relative(params):
    return open("data.txt").read()

def exit_without_a_word(params):
    print("last words", flush=True)
    os._exit(0)

def crash_beside_a_child(params):
    if os.fork() == 0:
        time.sleep(60)
    print("last words", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)

def orphan(params):
    child = subprocess.Popen(["sleep", "60"])
    return child.pid

def deep(params):
    import helpers_of_mine
    return helpers_of_mine.inner(params)

not_callable = 5
'''

HELPERS = """
def inner(params):
    return 1 / params["zero"]
"""


def write(directory, extra=None):
    """Write the payload into a directory: no packages, so that its environment is quickly built."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "worker.py").write_text(MODULE)
    (directory / "helpers_of_mine.py").write_text(HELPERS)
    (directory / "data.txt").write_text("data")
    (directory / "Pipfile").write_text("[packages]\n")
    for name, text in (extra or {}).items():
        (directory / name).write_text(text)
    return directory
