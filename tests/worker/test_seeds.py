"""A job's random numbers depend on the job alone: real executors, numpy and scipy where they are there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cloudburst.rqwire.leases import Claim
from cloudburst.worker.inside.seeds import numbered
from tests.worker import test_executor
from tests.worker.test_foreground import Run

payload_dir, start = test_executor.payload_dir, test_executor.start

MODULE = """
import os, random
import numpy as np

np.random.seed(42)
AT_IMPORT = [random.random(), np.random.rand(), np.random.default_rng().random()]
first = np.random.default_rng()
second = np.random.default_rng()
fixed = np.random.default_rng(42)
old = np.random.RandomState(7)
philox = np.random.Generator(np.random.Philox(1))
own = random.Random()
LIST = [np.random.default_rng(1)]
DICT = {"a": np.random.default_rng(1)}
alias = first

class Model:
    shared = np.random.default_rng(1)
    def __init__(self):
        self.rng = np.random.default_rng(1)

model = Model()

def draw(params):
    import lazy
    return {
        "random": random.random(),
        "gauss": random.gauss(0, 1),
        "numpy": np.random.rand(),
        "normal": np.random.normal(),
        "first": first.random(),
        "second": second.random(),
        "fixed": fixed.random(),
        "old": old.rand(),
        "philox": philox.random(),
        "own": own.random(),
        "list": LIST[0].random(),
        "dict": DICT["a"].random(),
        "class": Model.shared.random(),
        "instance": model.rng.random(),
        "unseeded": np.random.default_rng().random(),
        "unseeded_again": np.random.default_rng().random(),
        "spawned": first.spawn(1)[0].random() if hasattr(first, "spawn") else 0,
        "lazy": lazy.rng.random(),
        "after": random.random(),
        "seed": int(os.environ["CLOUDBURST_SEED"]),
    }

def at_import(params):
    import lazy
    return AT_IMPORT + [lazy.OFFSET]

def pool(params):
    children = []
    for _ in range(2):
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, repr(np.random.default_rng().random()).encode())
            os._exit(0)
        os.wait()
        children.append(os.read(read, 100).decode())
    return children

def fail_once(params):
    value = random.random()
    if os.environ["CLOUDBURST_ATTEMPT"] == "1":
        random.seed(1)
        raise ValueError("again")
    return value
"""

LAZY = """
import random
import numpy as np
rng = np.random.default_rng()
OFFSET = random.random() + np.random.rand()
random.seed(5)
"""

WITHOUT = """
import random, sys
def plainly(params):
    return ["numpy" in sys.modules, random.random()]
def late(params):
    import numpy
    return [numpy.random.rand(), numpy.random.default_rng().random()]
"""


@pytest.fixture
def drawing(payload_dir):
    pytest.importorskip("numpy")
    (payload_dir / "drawing.py").write_text(MODULE)
    (payload_dir / "lazy.py").write_text(LAZY)
    (payload_dir / "without.py").write_text(WITHOUT)
    return payload_dir


def called(running, function, index, *, seed=5, attempt=1):
    data = json.dumps([function, None, [{}], {}]).encode()
    running.process.send(
        Claim(f"e-1-{index}", "w.1", attempt, 0, "e-1", index, "", 1e9, data, order=index, seed=seed)
    )
    header, body = running.done()
    assert header["state"] == "finished", header
    return json.loads(body)


@pytest.mark.parametrize("isolation", ["reuse", "fork"])
def test_jobs_differ_and_each_is_the_same_wherever_and_whenever_it_runs(drawing, start, isolation):
    here, there = start(isolation=isolation), start()

    forwards = [called(here, "drawing.draw", index) for index in range(4)]
    backwards = [called(there, "drawing.draw", index) for index in reversed(range(4))][::-1]
    replayed = Run(drawing, "drawing.draw", {}, python=sys.executable).answer["value"]

    assert forwards == backwards
    assert replayed == forwards[3]
    for name in forwards[0]:
        assert len({job[name] for job in forwards}) == 4, name
    drawn = [value for name, value in forwards[0].items() if name != "seed"]
    assert len(set(drawn)) == len(drawn)


def test_another_seed_gives_other_numbers(drawing, start):
    running = start()

    one, other = (called(running, "drawing.draw", 1, seed=seed) for seed in (5, 6))

    assert all(one[name] != other[name] for name in one)
    assert called(running, "drawing.draw", 1, seed=5) == one


def test_what_modules_draw_while_they_are_imported_is_the_same_in_each_executor(drawing, start):
    running = start()
    first = called(running, "drawing.at_import", 1)

    assert called(start(), "drawing.at_import", 2, seed=6) == first
    assert called(start(isolation="fork"), "drawing.at_import", 3) == first


def test_processes_that_a_job_forks_do_not_all_draw_the_same(drawing, start):
    one, two = called(start(), "drawing.pool", 1)

    assert one != two


def test_numpy_that_a_job_imports_itself_is_seeded_too(drawing, start):
    here, there = start(), start(preload=("numpy",))

    assert called(here, "without.plainly", 0)[0] is False
    first = called(here, "without.late", 1)
    again = called(here, "without.late", 1)
    other = called(there, "without.late", 1)

    assert first == again == other
    assert called(there, "without.late", 2) != other


def test_seed_off_leaves_generators_be(drawing, start):
    running = start(seed="off")

    one, two = (called(running, "drawing.draw", 1) for _ in range(2))

    assert one["seed"] == two["seed"] == numbered(5, 1)
    assert all(one[name] != two[name] for name in one if name != "seed")


def test_frozen_distributions_of_scipy_are_seeded(payload_dir, start):
    pytest.importorskip("scipy")
    (payload_dir / "frozen.py").write_text(
        "import numpy as np\nfrom scipy import stats\n"
        "one = stats.norm(0, 1)\n"
        "two = stats.norm(0, 1)\n"
        "two.random_state = np.random.default_rng(3)\n"
        "def draw(params): return [one.rvs(), two.rvs(), stats.gamma.rvs(2)]\n"
    )
    running = start()

    first, second, again = (called(running, "frozen.draw", index) for index in (1, 2, 1))

    assert first == again
    assert all(a != b for a, b in zip(first, second, strict=True))


def test_the_seed_in_the_environment_is_another_one_for_each_job():
    assert len({numbered(2**63 - 1, index) for index in range(100_000)}) == 100_000
    assert {numbered(7, index) for index in range(3)} != {numbered(8, index) for index in range(3)}
    assert all(0 <= numbered(seed, 2**32 - 1) < 2**32 for seed in range(100))


def test_it_needs_no_numpy():
    code = "import sys; sys.modules['numpy'] = None; from cloudburst.worker.inside import seeds"

    subprocess.run([sys.executable, "-c", code], check=True)
