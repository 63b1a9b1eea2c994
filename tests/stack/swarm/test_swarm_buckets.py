"""Buckets are made and mended by a deployment.

In the place of Docker's and InfluxDB's clients are programs that know the words of their references and no
others: ``influx bucket list``, ``create`` and ``update`` as influx-cli 2.8.0 answers with InfluxDB 2.9.1.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cloudburst.commands import influx
from cloudburst.errors import ConfigError, StackError
from cloudburst.hosts.local import LocalHost
from cloudburst.stack.swarm import buckets
from cloudburst.stack.swarm.runner import Runner
from cloudburst.stack.swarm.settings import Settings, Wishes, resolve

DOCKER = """#!/bin/sh
echo "$@" >>"$STAND_IN/asked"
case $1 in
  ps) [ -e "$STAND_IN/buckets.json" ] && echo c0ffee || : ;;
  exec)
    shift 2
    script=$(printf '%s' "$3" | sed "s|/run/secrets|$STAND_IN|")
    shift 3
    PATH=$STAND_IN/inside:$PATH exec sh -c "$script" "$@"
    ;;
esac
"""

INFLUX = """#!/usr/bin/env python3
import argparse, json, os, re, sys
state = os.path.join(os.environ["STAND_IN"], "buckets.json")
text = open(state).read()
if text == "1.6":
    print("Connected to http://localhost:8086 version 1.6.7~rc0")
    sys.exit()
if os.environ.get("INFLUX_TOKEN") != "operators-token":
    sys.exit("Error: failed to list buckets: 401 Unauthorized: unauthorized access")
parser = argparse.ArgumentParser()
bucket = parser.add_subparsers(required=True).add_parser("bucket")
commands = bucket.add_subparsers(dest="verb", required=True)
listing, create, update = map(commands.add_parser, ("list", "create", "update"))
for command, flags in ((listing, ["--org"]), (create, ["--org", "--name"]), (update, ["--id"])):
    for flag in flags:
        command.add_argument(flag, required=True)
listing.add_argument("--json", action="store_true", required=True)
for command in (create, update):
    command.add_argument("--retention")
    command.add_argument("--shard-group-duration")
said = parser.parse_args()
assert getattr(said, "org", "cloudburst") == "cloudburst"
buckets = json.loads(text)
seconds = lambda text: int(re.fullmatch(r"(\\d+)s", text)[1])
if said.verb == "list":
    print(json.dumps(buckets))
    sys.exit()
if said.verb == "create":
    assert said.name not in [bucket["name"] for bucket in buckets]
    rules = [{"type": "expire", "everySeconds": 0, "shardGroupDurationSeconds": 604800}]
    (bucket,) = [{"id": "fedcba9876543210", "name": said.name, "retentionRules": rules}]
    buckets.append(bucket)
else:
    (bucket,) = [bucket for bucket in buckets if bucket["id"] == said.id]
(rule,) = bucket["retentionRules"]
if said.retention:
    rule["everySeconds"] = seconds(said.retention)
if said.shard_group_duration:
    rule["shardGroupDurationSeconds"] = seconds(said.shard_group_duration)
elif said.verb == "create" and rule["everySeconds"]:
    rule["shardGroupDurationSeconds"] = 86400 if rule["everySeconds"] >= 172800 else 3600
if 0 < rule["everySeconds"] < rule["shardGroupDurationSeconds"]:
    sys.exit("Error: failed to update bucket: shard-group duration is longer than the retention period")
open(state, "w").write(json.dumps(buckets))
"""


class StandIn:
    """A master with an InfluxDB."""

    def __init__(self, directory: Path, said: list[str]) -> None:
        self.state = directory / "buckets.json"
        self._asked = directory / "asked"
        self._environ = os.environ | {"STAND_IN": str(directory)}
        self._environ["PATH"] = f"{directory}:{os.environ['PATH']}"
        self.said = said
        (directory / "inside").mkdir()
        for name, text in (("docker", DOCKER), ("inside/influx", INFLUX)):
            (directory / name).write_text(text)
            (directory / name).chmod(0o755)
        (directory / "influx-token").write_text("operators-token")
        rules = [{"type": "expire", "everySeconds": 0, "shardGroupDurationSeconds": 604800}]
        self.set([{"id": "0123456789abcdef", "name": "cloudburst", "retentionRules": rules}])

    def set(self, buckets: Any) -> None:
        self.state.write_text(json.dumps(buckets))

    @property
    def rules(self) -> dict[str, tuple[int, int]]:
        """Of each bucket how many seconds it keeps points for, and how many its shard groups span."""
        return {
            one["name"]: (rule["everySeconds"], rule["shardGroupDurationSeconds"])
            for one in json.loads(self.state.read_text())
            for rule in one["retentionRules"]
        }

    @property
    def kept_s(self) -> int | None:
        """For how long the stack's own measurements are kept."""
        return self.rules.get("cloudburst_stack", (None, 0))[0]

    @property
    def asked(self) -> list[str]:
        return self._asked.read_text().splitlines()

    def ensure(self, wanted: str, *, dry: bool = False) -> bool:
        host = LocalHost(self._environ)
        runner = Runner({host.name: host}, self.said.append, dry=dry)
        try:
            return buckets.ensure(runner, host.name, "swarm", wanted)
        finally:
            runner.close()


@pytest.fixture
def master(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path, [])


DECADE_S = 3712 * 86400


def test_a_new_database_gets_a_bucket_for_the_stack_and_one_for_any_simulated_time(master: StandIn) -> None:
    assert master.ensure("")
    assert master.rules == {"cloudburst": (0, DECADE_S), "cloudburst_stack": (0, 604800)}
    assert not master.ensure("")


def test_one_of_the_version_before_keeps_its_points_and_none_of_a_job_are_too_old(master: StandIn) -> None:
    rules = [{"type": "expire", "everySeconds": 90 * 86400, "shardGroupDurationSeconds": 86400}]
    master.set([{"id": "0123456789abcdef", "name": "cloudburst", "retentionRules": rules}])

    assert master.ensure("90d")

    assert master.rules == {"cloudburst": (0, DECADE_S), "cloudburst_stack": (90 * 86400, 86400)}


def test_a_change_takes_effect_once(master: StandIn) -> None:
    assert master.ensure("90d")
    assert master.kept_s == 90 * 86400
    assert not master.ensure("90d")
    assert not master.ensure("2160h")
    assert master.ensure("")
    assert master.kept_s == 0
    assert not master.ensure("0s")


@pytest.mark.parametrize(("kept", "shard_s"), [("1h", 3600), ("30d", 86400), ("52w", 604800), ("", 604800)])
def test_shard_groups_of_the_stacks_bucket_are_as_long_as_their_retention_allows(
    master: StandIn, kept: str, shard_s: int
) -> None:
    master.ensure("10d")
    master.ensure(kept)

    kept_s, spans_s = master.rules["cloudburst_stack"]
    assert spans_s == shard_s
    assert kept_s == 0 or spans_s <= kept_s


def test_the_token_is_in_no_command_line(master: StandIn) -> None:
    master.ensure("90d")

    assert any("--retention 7776000s" in line for line in master.asked)
    assert "operators-token" not in "".join([*master.asked, *master.said])


def test_a_dry_run_says_what_would_be_done(master: StandIn) -> None:
    assert master.ensure("90d", dry=True)
    assert any("--retention 7776000s" in line for line in master.said)
    assert master.rules == {"cloudburst": (0, 604800)}

    master.state.unlink()  # as before the first deployment
    assert not master.ensure("90d", dry=True)


def test_an_influxdb_1_is_left_alone_unless_something_is_wanted_of_it(master: StandIn) -> None:
    master.state.write_text("1.6")

    assert not master.ensure("")
    with pytest.raises(StackError, match=r"CLOUDBURST_RETENTION=90d.*this needs the image of an InfluxDB 2"):
        master.ensure("90d")


def test_a_token_that_is_refused_is_said(master: StandIn, tmp_path: Path) -> None:
    (tmp_path / "influx-token").write_text("another")

    with pytest.raises(StackError, match="401 Unauthorized"):
        master.ensure("90d")


def test_what_is_no_retention_is_refused_before_anything_is_done() -> None:
    with pytest.raises(ConfigError, match="CLOUDBURST_RETENTION: should be"):
        resolve("hosts", Wishes(hosts="m"), None, {"CLOUDBURST_RETENTION": "quarter"})
    settings = resolve("hosts", Wishes(hosts="m"), None, {"CLOUDBURST_RETENTION": "90d"})
    assert resolve("hosts", Wishes(), settings, {"CLOUDBURST_RETENTION": ""}) == Settings("hosts", ("m",))


def test_influx_is_asked_as_its_reference_says() -> None:
    line = influx.change("c0ffee", "0123456789abcdef", 3600, 86400).argv

    assert line[:3] == ("docker", "exec", "c0ffee")
    assert line[-7:-2] == ("update", "--id", "0123456789abcdef", "--retention", "3600s")
    assert line[-2:] == ("--shard-group-duration", "86400s")
    assert subprocess.run(["sh", "-n", "-c", line[5]], check=False).returncode == 0
