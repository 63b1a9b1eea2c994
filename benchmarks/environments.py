"""How long from POST of a payload to the first running job on each of N nodes that have no environment?

Two ways, in turn, with the payload of client/example and the same package index on this machine:

- ``cloudburst N``: N workers with one slot each and a state directory of their own;
- ``original N``: N times what a node did originally: fetch the payload, ``pipenv install``, ``rq worker``.

Every node has a home and caches of its own. All share this machine's CPUs, on which building is what takes
the time, so on machines of their own the original N would be as fast as the original 1, and ask for as much.
A job counts as begun when its function is entered: with numpy and wntr imported.

Then, on the warm node of ``cloudburst 1``: another payload with the same lock, once as an ensemble and once
as worker.zip for stock RQ jobs, each some seconds after the one before, as when somebody edits code; and
beside it a node that joins later.

Writes benchmarks/results/environments.json.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rq import Queue
from rq.serializers import JSONSerializer

import index
import measure
import services
from cloudburst.ensemble.ensemble import Ensemble
from cloudburst.rqwire.ensembles import Ensembles

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "client" / "example"
ORIGINAL_NODE = Path(__file__).resolve().parent / "peers" / "original_node.py"

JOB_S = 0.5
"""How long the jobs nap, so that a node that is ready first leaves some for the others."""

EDIT_S = 10
"""Before new code comes; by then an executor stands in that has imported what the example preloads."""

LIMIT_S = 1200

FETCHING = "fetching the environment"
"""What a worker says while it does so."""

READY = "ready: what follows is starting the executor and importing"

BEGIN = """
import os, time

import worker  # and with it numpy and wntr

TEXT = "{text}"

def begin(params):
    began = time.time()
    time.sleep(params["seconds"])
    return {{"began": began, "node": os.environ["BENCH_NODE"], "text": TEXT}}
"""

FIRST, ALL, STOCK = "s to the first node's job", "s to the last node's", "s, stock jobs"
NEXT, JOIN = "s, new code", "s from archive to job"

GOALS = [
    measure.Goal(f"POST to jobs on {n} without environment", ALL, must=1 / 3, stretch=0.1,
                 ours=f"cloudburst {n}", of=f"original {n}", higher=False, peers=[f"original {n}"])
    for n in (1, 2, 8)
] + [
    measure.Goal(f"asked of the index by {n}", "index files", must=1.01 / n, ours=f"cloudburst {n}",
                 of=f"original {n}", higher=False, peers=[f"original {n}"])
    for n in (1, 2, 8)
] + [
    measure.Goal("another payload, same lock", NEXT, must=2, ours="cloudburst 1", higher=False, peers=[]),
    measure.Goal("another worker.zip, same lock", STOCK, must=2, ours="cloudburst 1", higher=False, peers=[]),
    measure.Goal("a node that joins later", JOIN, must=3, ours="cloudburst 1", higher=False, peers=[]),
]  # fmt: skip


def main() -> None:
    parser = measure.arguments(__doc__, jobs=200)
    parser.add_argument("--nodes", default="1,2,8", help="numbers of nodes (1,2,8)")
    parser.add_argument("--many-repeats", type=int, default=1, help="rounds with more than two nodes (1)")
    parser.add_argument("--no-lock", action="store_true", help="leave the example's Pipfile.lock out")
    parser.add_argument("--only", choices=["cloudburst", "original"], help="measure one way only")
    options = parser.parse_args()
    counts = [int(count) for count in options.nodes.split(",")]

    with tempfile.TemporaryDirectory(prefix="cloudburst-bench-", ignore_cleanup_errors=True) as name:
        bench = Bench(Path(name), options.jobs, lock=not options.no_lock)
        runs: measure.Runs = {}
        for few, repeats in ((True, options.repeats), (False, options.many_repeats)):
            chosen = [count for count in counts if (count <= 2) == few]
            ways = {
                f"{way} {count}": lambda run=run, count=count: run(count)
                for count in chosen
                for way, run in (("cloudburst", bench.cloudburst), ("original", bench.original))
                if options.only in {None, way}
            }
            if ways:
                runs |= measure.interleave(ways, repeats)
        goals = [
            goal
            for goal in GOALS
            if goal.quantity in runs.get(goal.ours, {}) and (not goal.of or goal.of in runs)
        ]
        measure.report("environments", goals, runs, options, versions=measure.packages("pipenv", "uv"),
                       facts={"index": bench.holds, "steps": bench.steps})  # fmt: skip


class Bench:
    """The package index, and both ways to run the payload."""

    def __init__(self, directory: Path, jobs: int, *, lock: bool) -> None:
        self.directory = directory
        self.jobs = jobs
        self.steps: list[dict[str, list[str]]] = []
        """What the workers did in each round, and when."""
        self._lock = lock
        self._number = 0
        self._rq = directory / "rq"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(self._rq)]
        subprocess.run([*pip, f"rq=={version('rq')}"], check=True, stdout=sys.stderr)
        index.fetch(EXAMPLE, directory / "wheels")
        wheels = list((directory / "wheels").glob("*.whl"))
        self.holds = {"files": len(wheels), "MB": round(sum(w.stat().st_size for w in wheels) / 1e6, 1)}
        self._index = index.CountingIndex(directory / "wheels")
        for name in [n for n in os.environ if n.startswith(("PIP_", "UV_", "PIPENV_", "PYTHON", "VIRTUAL"))]:
            del os.environ[name]

    def cloudburst(self, nodes: int) -> measure.Values:
        """One round on new services: values of the first payload, and with one node those of the others."""
        with services.running() as stack:
            for node in range(nodes):
                self._worker(stack, node)
            services.until(lambda: len(stack.stack.workers()) == nodes, "the workers", 60)
            self._index.take()
            posted = time.time()
            ensemble = self._submit(stack, "first")
            with Notes(ensemble) as notes:
                began = self._begun(stack, ensemble, nodes)
            self.steps.append({f"{nodes} nodes": notes.steps()})
            values = _times(posted, began) | self._index.take().values()
            if nodes == 1:
                values |= self._other_payloads(stack) | self._joiner(stack)
            return values

    def _submit(self, stack: services.Services, text: str, jobs: int = 0) -> Ensemble:
        descriptions = ({"seconds": JOB_S} for _ in range(jobs or self.jobs))
        payload = self._payload(text)
        return stack.stack.submit("environments", payload=payload, function="begin.begin", jobs=descriptions)

    def _begun(self, stack: services.Services, ensemble: Ensemble, nodes: int) -> dict[str, float]:
        """When each node's first job began; the ensemble is cancelled then."""
        found: dict[str, float] = {}

        def all_nodes() -> bool:
            for record in Ensembles(stack.redis.client).all_records(ensemble.id):
                if record.state != "finished":
                    raise SystemExit(f"{record.job_id}: {record.error}")
                found.setdefault(record.value["node"], record.value["began"])
            return len(found) >= nodes

        services.until(all_nodes, f"a job on each of {nodes} nodes", LIMIT_S, 0.1)
        ensemble.cancel()
        services.until(lambda: ensemble.status().complete, "the ensemble to end", 60)
        return found

    def _other_payloads(self, stack: services.Services) -> dict[str, float]:
        """New code, the same lock: as an ensemble, and as the worker.zip of stock jobs."""
        time.sleep(EDIT_S)
        posted = time.time()
        began = self._begun(stack, self._submit(stack, "second", jobs=1), 1)
        values = {NEXT: min(began.values()) - posted}
        queue = Queue(connection=stack.redis.client, serializer=JSONSerializer)
        for text in ("third", "fourth"):  # the second of them finds a worker that has a current worker.zip
            payload = self._payload(text)
            time.sleep(EDIT_S)
            posted = time.time()
            stack.stack.post(payload)
            job = queue.enqueue("begin.begin", {"seconds": 0})
            services.until(lambda job=job: job.latest_result(), "a stock job to end", 60)
            result: Any = job.latest_result()
            if not result.return_value or result.return_value["text"] != text:
                raise SystemExit(f"worker.zip {text}: ran {result.return_value} {result.exc_string}")
            values[STOCK] = result.return_value["began"] - posted
        return values

    def _joiner(self, stack: services.Services) -> dict[str, float]:
        """A node that comes while jobs of a payload that is known wait."""
        ensemble = self._submit(stack, "second")
        with Notes(ensemble) as notes:
            started = time.time()
            self._worker(stack, 1)
            began = self._begun(stack, ensemble, 2)["1"]
        since = notes.since_fetched(began)
        self.steps.append({"a node that joins": notes.steps()})
        values = {"s from a node's start to its job": began - started}
        return values | ({JOIN: since} if since is not None else {})

    def original(self, nodes: int) -> measure.Values:
        """One round on new services: POST, then every node for itself."""
        with services.running() as stack, contextlib.ExitStack() as cleaning:
            self._index.take()
            queue = Queue(connection=stack.redis.client)
            queue.enqueue_many(
                [Queue.prepare_data("begin.begin", ({"seconds": JOB_S},), timeout=60)] * self.jobs
            )
            payload = self._payload("first")
            posted = time.time()
            stack.stack.post(payload)
            for node in range(nodes):
                process = self._original_node(stack, node)
                cleaning.callback(services.end, process, 5)
            found: dict[str, float] = {}

            def all_nodes() -> bool:
                for job_id in queue.finished_job_registry.get_job_ids(cleanup=False):
                    value = queue.fetch_job(job_id).return_value()
                    found.setdefault(value["node"], value["began"])
                return len(found) >= nodes

            services.until(all_nodes, f"a job on each of {nodes} nodes", LIMIT_S, 0.2)
            return _times(posted, found) | self._index.take().values()

    def _worker(self, stack: services.Services, node: int) -> None:
        state = f"node-{node}"
        stack.worker(slots=1, points=False, state=state, CLOUDBURST_NODE=state, **self._environ(stack, node))

    def _original_node(self, stack: services.Services, node: int) -> subprocess.Popen[bytes]:
        directory = stack.directory / f"original-{node}"
        directory.mkdir()
        url = f"{stack.stack.endpoints.filestore_url}/files/worker.zip"
        argv = [sys.executable, str(ORIGINAL_NODE), url, services.TOKEN, stack.redis.url, str(self._rq)]
        environ = os.environ | self._environ(stack, node)
        environ |= {"PIPENV_VENV_IN_PROJECT": "1", "PIPENV_YES": "1", "PIPENV_NOSPIN": "1"}
        log = stack.directory / f"original-{node}.log"
        with log.open("ab") as file:
            return subprocess.Popen(argv, cwd=directory, env=environ, stdout=file, stderr=file)

    def _environ(self, stack: services.Services, node: int) -> dict[str, str]:
        """A node's own home, with nothing in its caches, and the counting index as the only one."""
        home = stack.directory / f"home-{node}"
        home.mkdir()
        return {
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "PIP_INDEX_URL": self._index.url,
            "PIP_CONFIG_FILE": os.devnull,
            "BENCH_NODE": str(node),
        }

    def _payload(self, text: str) -> Path:
        """The example and a module that says when its jobs began; ``text`` tells one payload from another."""
        directory = self.directory / f"payload-{text}"
        if not directory.exists():
            left_out = ["__pycache__"] if self._lock else ["__pycache__", "Pipfile.lock"]
            shutil.copytree(EXAMPLE, directory, ignore=shutil.ignore_patterns(*left_out))
            (directory / "begin.py").write_text(BEGIN.format(text=text))
        return directory


def _times(posted: float, began: dict[str, float]) -> dict[str, float]:
    return {FIRST: min(began.values()) - posted, ALL: max(began.values()) - posted}


class Notes:
    """What the workers say about an ensemble before its jobs run, and when, to 10 ms."""

    def __init__(self, ensemble: Ensemble) -> None:
        self._ensemble = ensemble
        self._since = time.time()
        self._seen: list[tuple[float, str]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Notes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        last = ""
        while not self._stop.wait(0.01):
            note = self._ensemble.status().note
            if note != last:
                self._seen.append((time.time(), note or READY))
                last = note

    def steps(self) -> list[str]:
        """Each with when it began, in seconds after the jobs were submitted."""
        return [f"{when - self._since:.2f} s: {note}" for when, note in self._seen]

    def since_fetched(self, end: float) -> float | None:
        """Seconds from when the environment had been fetched; None when none was."""
        fetched = [number for number, (_, note) in enumerate(self._seen) if FETCHING in note]
        if not fetched or fetched[-1] + 1 == len(self._seen):
            return None
        return end - self._seen[fetched[-1] + 1][0]


if __name__ == "__main__":
    main()
