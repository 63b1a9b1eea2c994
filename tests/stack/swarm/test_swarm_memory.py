"""What is remembered of nodes that do not answer."""

from __future__ import annotations

from pathlib import Path

from cloudburst.stack.swarm import memory
from cloudburst.stack.swarm.facts import MachineFacts

A = MachineFacts(node_id="id-a", swarm_address="10.0.0.2", reached_at="192.0.2.7", systemd=True)


def test_a_node_that_does_not_answer_is_as_it_was_when_it_did(tmp_path: Path) -> None:
    path = tmp_path / "nodes.json"
    memory.remember(path, {"a": A})

    known = memory.recall(path, "a")

    assert known is not None
    assert known.silent
    assert (known.node_id, known.swarm_address, known.systemd) == ("id-a", "10.0.0.2", True)
    memory.remember(path, {"a": known})
    assert memory.recall(path, "a") == known


def test_a_machine_that_never_was_a_node_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / "nodes.json"
    assert memory.recall(path, "a") is None

    memory.remember(path, {"a": MachineFacts(reached_at="192.0.2.7")})

    assert memory.recall(path, "a") is None
    path.write_text("not JSON")
    assert memory.recall(path, "a") is None
