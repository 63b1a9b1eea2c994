"""Which node is to leave, and what an operator is told meanwhile."""

from __future__ import annotations

import pytest

from cloudburst.errors import StackError
from cloudburst.rqwire.held import Held
from cloudburst.stack.swarm.facts import MachineFacts, Node
from cloudburst.stack.swarm.leaving import find, progress

MASTER = Node("id-m", "master", "10.0.0.1", "ready", "active", True, {"cloudburst.master": "true"})
A = Node("id-a", "alpha", "10.0.0.2", "ready", "active", False, {"cloudburst.worker": "true"})
B = Node("id-b", "beta", "10.0.0.3", "down", "active", False, {"cloudburst.worker": "true"})
OTHER = Node("id-x", "other", "10.0.0.9", "ready", "active", False, {})
FACTS = MachineFacts(node_id="id-m", nodes=(MASTER, A, B, OTHER))
ADDRESSES = {"m.example.org": "203.0.113.1", "a.example.org": "10.0.0.2", "10.0.0.3": "10.0.0.3"}


@pytest.mark.parametrize(
    ("name", "node", "host"),
    [
        ("alpha", A, "a.example.org"),
        ("a.example.org", A, "a.example.org"),
        ("root@a.example.org", A, "a.example.org"),
        ("10.0.0.3", B, "10.0.0.3"),
        ("beta", B, "10.0.0.3"),
    ],
)
def test_a_node_is_found_by_each_of_its_names(name: str, node: Node, host: str):
    found = find(name, FACTS, ADDRESSES, "s")

    assert (found.node, found.host) == (node, host)


def test_a_node_that_no_host_leads_to_is_found_without_one():
    assert find("alpha", FACTS, {"m.example.org": "203.0.113.1"}, "s").host == ""


@pytest.mark.parametrize("name", ["gamma", "other", ""])
def test_a_node_of_nobody_is_refused_naming_those_there_are(name: str):
    with pytest.raises(StackError, match="there are master, alpha, beta"):
        find(name, FACTS, ADDRESSES, "s")


def test_the_master_cannot_leave():
    with pytest.raises(StackError, match="is the master"):
        find("master", FACTS, ADDRESSES, "s")


@pytest.mark.parametrize(
    ("ages_s", "said"),
    [
        ([], "a: no jobs run there"),
        ([5], "a: 1 job still runs, for 5 s"),
        ([5, 240, 30], "a: 3 jobs still run, the longest for 4 min"),
        ([9000, 1], "a: 2 jobs still run, the longest for 2.5 h"),
    ],
)
def test_progress_tells_how_many_and_how_long(ages_s: list[float], said: str):
    jobs = [Held(f"job-{age}", "w", 100_000 - age) for age in ages_s]

    assert progress(jobs, "a", 100_000) == said
