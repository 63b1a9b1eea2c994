"""Slots whose executors are played by a program that says what it is told to: a job is a list of steps.

``["frame", kind, body]`` is sent as a frame, ``["raw", bytes]`` as it is; ``@ORDER@`` becomes the number of
the job, and texts stand for bytes (Latin-1). ``["points", count]`` sends that many times ``LINES``.
``["close"]`` closes the socket, ``["exit", status]`` and ``["kill", signal]`` end the process, ``["flood"]``
never ends, ``["print", text]`` is output. ``["after", path, bytes]`` sends these once there is such a file.
"""

from __future__ import annotations

import json
import selectors
import stat
import sys
import time
from pathlib import Path

from cloudburst.config import WorkerConfig
from cloudburst.model import PayloadSettings, Provenance
from cloudburst.rqwire.leases import Claim, Loss, Outcome
from cloudburst.worker.recorder import Recorder
from cloudburst.worker.runtime import Runtime
from cloudburst.worker.slots import Slots

PLAYER = """#!{python} -SE
import json, os, socket, struct, sys, threading, time
def after(path, text):
    while not os.path.exists(path):
        time.sleep(0.01)
    control.sendall(text.encode("latin-1"))
control, queue = (socket.socket(fileno=int(fd)) for fd in sys.argv[2:4])
LINES = b"".join(b"m v=%d %d\\n" % (i, i) for i in range(50_000))
while True:
    message = queue.recv(1 << 20)
    if not message:
        break
    order = str(struct.unpack(">Q", message[:8])[0]).encode()
    head, _, data = message[8:].partition(b"\\n")
    if "file" in json.loads(head):
        with open(json.loads(head)["file"], "rb") as file:
            data = file.read().partition(b"\\n")[2]
    for step, *args in json.loads(data):
        if step in ("frame", "raw"):
            body = args.pop().encode("latin-1").replace(b"@ORDER@", order)
            if step == "frame":
                body = struct.pack(">IB", len(body), ord(args[0])) + body
            try:
                control.sendall(body)
            except OSError:
                os._exit(1)
        elif step == "points":
            for _ in range(*args):
                control.sendall(struct.pack(">IB", len(LINES), ord("P")) + LINES)
        elif step == "close":
            control.close()
        elif step == "exit":
            os._exit(*args)
        elif step == "kill":
            os.kill(os.getpid(), *args)
        elif step == "print":
            os.write(1, args[0].encode())
        elif step == "sleep":
            time.sleep(*args)
        elif step == "after":
            threading.Thread(target=after, args=args, daemon=True).start()
        elif step == "flood":
            while True:
                control.sendall(b"P" * 65536)
"""

LINES = b"".join(b"m v=%d %d\n" % (i, i) for i in range(50_000))

HEADER = {"state": "finished", "started": 0.0, "duration": 0.001, "order": "@ORDER@", "rss_mb": 10}
"""A good one, but for the time."""


def ended(value: str = "null", **changes: object) -> list[object]:
    """The step of a job that ends; ``None`` takes a key away."""
    header = {**HEADER, "started": time.time(), **changes}
    text = json.dumps({key: value for key, value in header.items() if value is not None})
    return ["frame", "D", text.replace('"@ORDER@"', "@ORDER@") + "\n" + value]


class Playing:
    """Slots, and what has become of the claims that were handed to them."""

    def __init__(self, directory: Path, slots: int = 2, state: Path | None = None) -> None:
        player = directory / "bin" / "player"
        player.parent.mkdir(parents=True)
        player.write_text(PLAYER.format(python=sys.executable))
        player.chmod(stat.S_IRWXU)
        self.runtime = Runtime(
            "digest", directory, player, PayloadSettings(), Provenance("p", "e", "3.11", "linux", "0")
        )
        config = WorkerConfig("", "", "", "", "", "", "", state or directory / "state", slots)
        self.selector = selectors.DefaultSelector()
        self.recorder = Recorder(None)
        config.state_dir.mkdir(exist_ok=True)
        self.slots = Slots(config, {}, self.selector, self.recorder, lambda claim, reason: None)
        self.outcomes: dict[str, Outcome] = {}
        self.losses: dict[str, Loss] = {}
        self._jobs = 0

    def claim(self, *steps: object, timeout_s: int = 0) -> Claim:
        self._jobs += 1
        return Claim(
            f"job-{self._jobs}",
            "w.1",
            1,
            timeout_s,
            "e",
            self._jobs,
            "",
            1e9,
            json.dumps(steps).encode(),
            order=self._jobs,
        )

    def hand_over(self, claim: Claim, slot: int = 0) -> None:
        assert self.slots.hand_over(claim, self.runtime, list(self.slots)[slot])

    def hand_over_waiting(self) -> int:
        """Hand over again what waits because another job's executor was ended; how many these are."""
        again, self.slots.waiting = self.slots.waiting, []
        for claim in again:
            self.hand_over(claim)
        return len(again)

    def turn(self) -> None:
        """What the worker's loop does, with the slots alone; each turn collects what has ended."""
        for key, _ in self.selector.select(0.01):
            self.slots.listen(key.data)
        self.slots.enforce(time.monotonic())
        outcomes, losses = self.recorder.batch()
        for outcome in outcomes:
            assert outcome.claim.job_id not in self.outcomes | self.losses
            self.outcomes[outcome.claim.job_id] = outcome
        for loss in losses:
            assert loss.claim.job_id not in self.outcomes | self.losses
            self.losses[loss.claim.job_id] = loss
        self.recorder.told(["recorded"] * len(outcomes), ["returned"] * len(losses))

    def until(self, done, timeout_s: float = 20) -> None:
        deadline = time.monotonic() + timeout_s
        while not done():
            self.turn()
            assert time.monotonic() < deadline, (list(self.outcomes), list(self.losses))

    def outcome(self, claim: Claim) -> Outcome:
        self.until(lambda: claim.job_id in self.outcomes)
        return self.outcomes[claim.job_id]

    def loss(self, claim: Claim) -> Loss:
        self.until(lambda: claim.job_id in self.losses)
        return self.losses[claim.job_id]

    def run(self, *steps: object, slot: int = 0) -> Outcome:
        claim = self.claim(*steps)
        self.hand_over(claim, slot)
        return self.outcome(claim)
