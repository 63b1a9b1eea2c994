"""Droplets that are virtual machines: of a farm of tests/swarm, in the background."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from tests.digitalocean.droplets import Droplet
from tests.swarm.machines import Farm, Machine


class Machines:
    """Hardware for :class:`FakeDigitalOcean`; entered before it, and left after it.

    ``network``: the addresses of ``eth1``, which the account gives to the first VPC that is made.
    """

    def __init__(self, farm: Farm) -> None:
        self.farm = farm
        self.network = str(farm.network.private_subnet)
        self.failures: list[str] = []
        """What went wrong with a machine: the fault of the test, or of who asked for it twice."""
        self._works: dict[str, Future[None]] = {}
        """By the machine's name: what was begun last, and ends last."""
        self._made: dict[int, Machine] = {}
        self._removed: dict[int, Future[None]] = {}

    def __enter__(self) -> Machines:
        self._pool = ThreadPoolExecutor(20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        assert not self.failures, "\n".join(self.failures)

    def machine(self, name: str) -> Machine:
        return self.farm.machines[name]

    def make(self, droplet: Droplet) -> None:
        cpus = sorted(os.sched_getaffinity(0))[: droplet.size["vcpus"]]

        def made() -> None:
            machine = self.farm.machine(droplet.name, cpus, keys=droplet.keys, private=True)
            droplet.address, droplet.private_address = machine.address, machine.private_address
            self._made[droplet.id] = machine

        self._begin(droplet, made)

    def ready(self, droplet: Droplet) -> bool:
        return droplet.id in self._made

    def power(self, droplet: Droplet, *, on: bool) -> None:
        def powered() -> None:
            machine = self._made[droplet.id]
            if machine.running and not on:
                machine.power_off()
            elif on and not machine.running:
                machine.boot()

        self._begin(droplet, powered)

    def remove(self, droplet: Droplet) -> None:
        def removed() -> None:
            if droplet.id in self._made:
                self._made[droplet.id].remove()

        self._removed[droplet.id] = self._begin(droplet, removed)

    def gone(self, droplet: Droplet) -> bool:
        return self._removed[droplet.id].done()

    def _begin(self, droplet: Droplet, work: Callable[[], None]) -> Future[None]:
        """One after another for each name."""
        before = self._works.get(droplet.name)

        def then() -> None:
            if before is not None:
                before.result()
            try:
                work()
            except Exception:  # noqa: BLE001  nobody waits for it: the test looks at all of them
                self.failures.append(f"{droplet.name}: {traceback.format_exc()}")

        self._works[droplet.name] = self._pool.submit(then)
        return self._works[droplet.name]
