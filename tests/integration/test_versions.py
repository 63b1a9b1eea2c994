"""An ensemble whose code is mended in the middle: what failed runs anew, and all of it is accounted for."""

from __future__ import annotations

import json
import shutil

import pytest

from cloudburst import names
from cloudburst.filestore.client import FileStore
from tests.integration.conftest import write_model
from tests.wait import wait_until

pytestmark = pytest.mark.slow

BROKEN = "def work(params):\n    return {'root': params['seed'] ** 0.5 / (params['seed'] - 2)}\n"
MENDED = "def work(params):\n    return {'root': 0.0 if params['seed'] == 2 else 1.0}\n"


def test_a_failure_is_replayed_mended_and_run_again_with_its_provenance_told(local, tmp_path):
    old = write_model(tmp_path / "old", worker_py=BROKEN)
    new = write_model(tmp_path / "new", worker_py=MENDED)
    jobs = "".join(f'{{"seed": {seed}}}\n' for seed in range(4))
    done = local.cloudburst("submit", "roots", "-p", old, "-f", "worker.work", "--watch", stdin=jobs)
    ensemble = done.stdout.strip()
    assert done.returncode == 1

    upgraded = local.cloudburst("upgrade", "roots", new, "--rerun-failed")
    watched = local.cloudburst("watch", "roots")
    shown = json.loads(local.cloudburst("show", "roots", "--provenance").stdout)

    assert (upgraded.returncode, upgraded.stdout) == (0, "1\n"), upgraded.stderr
    assert watched.returncode == 0, watched.stderr
    counts = {
        one["payload"]: [ran["counts"]["finished"] for ran in one["ran_on"]] for one in shown["payloads"]
    }
    assert sorted(counts.values()) == [[1], [3]]
    (current,) = [one for one in shown["payloads"] if one["current"]]
    assert counts[current["payload"]] == [1]
    for one in shown["payloads"]:
        assert one["lock"]["default"] == {}, one
        assert one["lock_error"] == ""
    assert shown["ended_unrun"] == 0

    # The environment is the one that the workers have stored, not another from the same lock.
    (ran_on,) = current["ran_on"]
    stored = names.stored_environment_record(ran_on["environment"])
    where = local.endpoints()
    store = FileStore(where["filestore_url"], where["filestore_token"])
    wait_until(lambda: store.exists(stored), 60, "the environment to be stored")
    shutil.rmtree(local.home / "local" / "replay", ignore_errors=True)

    # Each job is replayed with the payload that its record names, not with the ensemble's present one.
    first = local.cloudburst("replay", f"{ensemble}-1")
    again = local.cloudburst("replay", f"{ensemble}-2")
    assert first.stdout == '{"root": -1.0}\n'
    assert again.stdout == '{"root": 0.0}\n'
    assert "fetching the environment" in first.stderr
    assert "installing" not in first.stderr + again.stderr
    assert f"environment {ran_on['environment']:.12} (Python {ran_on['python']})" in first.stderr
    for replayed in (first, again):
        assert "returned the same value" in replayed.stderr
        assert "not the environment" not in replayed.stderr
    printed = local.cloudburst("payload", "lock", current["payload"][:8])
    assert json.loads(printed.stdout) == current["lock"]
