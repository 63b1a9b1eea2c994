"""Locks on a node, wanted by several ensembles at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cloudburst.worker import locking
from cloudburst.worker.dependencies import Lock


def test_a_lock_that_several_keep_at_once_is_whole_and_fails_nobody(tmp_path: Path):
    kept, lock = tmp_path / "locks" / "payload.used", Lock('{"default": {}, "_meta": {}}')

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: locking._write(kept, lock), range(2000)))

    assert kept.read_text() == lock.text
    assert [path.name for path in kept.parent.iterdir()] == ["payload.used"]
