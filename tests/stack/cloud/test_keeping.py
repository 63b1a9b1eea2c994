"""What a stack tells its keeper, and where the keeper's token is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudburst import config
from cloudburst.errors import ConfigError
from cloudburst.stack.cloud import keeping
from cloudburst.stack.cloud.paths import CloudPaths
from cloudburst.stack.cloud.settings import Settings
from cloudburst.stack.swarm import compose, secrets
from cloudburst.stack.swarm.settings import Wishes, resolve

COMPOSE = (Path(__file__).resolve().parents[3] / compose.FILE).read_text()
TOKEN = "dop_v1_abc"


@pytest.fixture
def paths(tmp_path: Path) -> CloudPaths:
    paths = CloudPaths(tmp_path / "floods")
    paths.make()
    return paths


def test_a_stack_that_is_to_end_needs_a_token_for_that(paths: CloudPaths) -> None:
    ends = Settings(nodes=1, ttl_s=3600)

    keeping.check({}, paths, Settings(nodes=1))
    with pytest.raises(ConfigError, match="CLOUDBURST_KEEPER_TOKEN"):
        keeping.check({}, paths, ends)
    keeping.check({"CLOUDBURST_KEEPER_TOKEN": TOKEN}, paths, ends)
    secrets.ensure(paths, {}, TOKEN)
    keeping.check({}, paths, ends)
    with pytest.raises(ConfigError):
        keeping.check({"CLOUDBURST_KEEPER_TOKEN": ""}, paths, ends)


def test_the_token_is_kept_until_it_is_taken_away(paths: CloudPaths) -> None:
    assert secrets.ensure(paths, {}).keeper_token == ""
    assert secrets.ensure(paths, {}, TOKEN).keeper_token == TOKEN
    assert secrets.ensure(paths, {}).keeper_token == TOKEN
    assert paths.secret("keeper-token").stat().st_mode & 0o777 == 0o600
    assert TOKEN not in repr(Wishes(keeper_token=TOKEN))
    assert secrets.ensure(paths, {}, "").keeper_token == ""


def test_it_can_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")

    assert config.keeper_token({"CLOUDBURST_KEEPER_TOKEN_FILE": str(file)}) == TOKEN
    assert config.keeper_token({"CLOUDBURST_KEEPER_TOKEN": ""}) == ""
    assert config.keeper_token({}) is None


def test_what_the_keeper_is_told_is_in_the_compose_file_and_remembered_but_the_token() -> None:
    environ = {"DIGITALOCEAN_END_POINT": "http://127.0.0.1:1/v2/", "CLOUDBURST_KEEPER_TOKEN": TOKEN}
    said = keeping.variables(environ, "floods", Settings(nodes=1, idle_s=90.5, save_to="results"))

    assert {name: value for name, value in said.items() if value} == {
        "CLOUDBURST_KEEPER_REPLICAS": "1",
        "CLOUDBURST_KEEPER_STACK": "floods",
        "CLOUDBURST_KEEPER_IDLE_S": "91",
        "CLOUDBURST_KEEPER_SAVE": "1",
        "CLOUDBURST_KEEPER_END_POINT": "http://127.0.0.1:1/v2/",
    }
    assert all(f"${{{name}:-" in COMPOSE for name in said)
    deployed = resolve("hosts", Wishes(hosts="m"), None, {**environ, **said})
    assert deployed.variables == {name: value for name, value in said.items() if value}
    assert TOKEN not in str(deployed)
    none = keeping.variables(environ, "floods", Settings(nodes=1))
    assert resolve("hosts", Wishes(), deployed, {**environ, **none}).variables == {}


def test_the_keeper_of_the_compose_file_reads_what_it_is_given() -> None:
    """Empty variables are those that were not said."""
    names = {line.split(":")[0].strip() for line in COMPOSE.splitlines() if "CLOUDBURST_KEEPER_" in line}
    empty = {name: "" for name in names if not name.startswith("#") and not name.endswith("_FILE")}
    environ = {**empty, "CLOUDBURST_KEEPER_STACK": "floods", "CLOUDBURST_REDIS_URL": "redis://queue"}

    read = config.KeeperConfig.from_environ(environ)

    assert (read.ttl_s, read.idle_s, read.grace_s, read.save_s, read.save) == (0, 0, 300, 600, False)
    assert read.token == ""
