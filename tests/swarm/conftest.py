"""Virtual machines for a session of tests; skipped, with the reason, where this machine can have none."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.swarm import images
from tests.swarm.deployed import Deployed
from tests.swarm.machines import Farm, Machine, missing_programs, why_not
from tests.wait import wait_until

HERE = Path(__file__).parent


class Machines(NamedTuple):
    """A master and two compute nodes, bare; the first two CPUs are shared out among them."""

    m: Machine
    a: Machine
    b: Machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Last, since they take minutes; and marked, so that they can be run alone or left out."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.swarm)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(900))
    items.sort(key=lambda item: item.get_closest_marker("swarm") is not None)


FIGURES = pytest.StashKey[list[str]]()

Measured = Callable[[str, float], None]
"""Takes what was measured, and how many seconds it was: printed when all tests have run."""


@pytest.fixture(scope="session")
def measured(pytestconfig: pytest.Config) -> Measured:
    figures = pytestconfig.stash.setdefault(FIGURES, [])
    return lambda what, seconds: figures.append(f"{seconds:8.1f} s  {what}")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    for line in config.stash.get(FIGURES, []):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def farm() -> Iterator[Farm]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    absent = missing_programs()
    if absent:
        reason = f"virtual machines need {', '.join(absent)}: install them (.ci/run does, on Debian)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with Farm() as farm:
        images.provide(farm)
        yield farm


@pytest.fixture(scope="session")
def machines(farm: Farm) -> Machines:
    with ThreadPoolExecutor() as all_at_once:
        return Machines(*all_at_once.map(farm.machine, "mab", [{0}, {0}, {1}]))


@pytest.fixture(scope="session")
def deployed(farm: Farm, machines: Machines, measured: Measured) -> Deployed:
    """The stack on all three machines; a test that breaks it, mends it."""
    deployed = Deployed(farm, machines)
    began = time.monotonic()
    deployed.run("up")
    measured("first deployment onto three bare machines", time.monotonic() - began)
    began = time.monotonic()
    assert "nothing to do" in deployed.run("up")
    measured("second run", time.monotonic() - began)
    return deployed


@pytest.fixture
def swarm(deployed: Deployed) -> Iterator[Deployed]:
    """The stack, whole: with all its nodes at work."""
    if not deployed.complete:  # a test has failed that took it down
        deployed.run("up")
    deployed.wait_for_workers("a", "b")
    # What workers last told may be of the test before.
    wait_until(lambda: not any(worker.busy for worker in deployed.workers().values()), 120, "idle workers")
    yield deployed
    for ensemble in deployed.stack().ensembles():
        if not ensemble.status().complete:
            ensemble.cancel()
    for node, worker in deployed.workers().items():
        if worker.state == "draining":
            deployed.run("undrain", node)
