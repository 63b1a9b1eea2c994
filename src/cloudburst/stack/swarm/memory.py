"""What is remembered of a stack's nodes, for when one does not answer: the others still have to know it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from cloudburst.stack.paths import read_text, write_private
from cloudburst.stack.swarm.facts import MachineFacts


@dataclass(frozen=True)
class _Known:
    node_id: str
    address: str
    systemd: bool


def remember(path: Path, facts: Mapping[str, MachineFacts]) -> None:
    """Write down which nodes the machines are, by host; those that are silent stay as they were."""
    known = {name: asdict(one) for name, one in _read(path).items()}
    now = {
        name: known.get(name)
        if one.silent
        else asdict(_Known(one.node_id, one.swarm_address or one.reached_at, one.systemd))
        for name, one in facts.items()
    }
    text = json.dumps(now, indent=2, sort_keys=True) + "\n"
    if text != read_text(path):
        write_private(path, text)


def recall(path: Path, host: str) -> MachineFacts | None:
    """What is known of a machine that does not answer; None when it never was a node."""
    known = _read(path).get(host)
    if known is None or not known.node_id:
        return None
    return MachineFacts(
        reached_at=known.address,
        swarm_address=known.address,
        node_id=known.node_id,
        systemd=known.systemd,
        silent=True,
    )


def _read(path: Path) -> dict[str, _Known]:
    try:
        return {name: _Known(**one) for name, one in json.loads(read_text(path) or "{}").items()}
    except (ValueError, TypeError):
        return {}  # written anew at the end of this deployment
