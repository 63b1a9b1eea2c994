"""What was said, over what was said last time, over the defaults."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cloudburst.errors import ConfigError
from cloudburst.stack import builds, secrets
from cloudburst.stack.paths import Paths
from cloudburst.stack.settings import PORTS, Influx, PortChoice, Settings, Wishes, resolve

LAST = Settings(
    slots=3, ports={"queue": 1001, "filestore": 1002, "influx": 1003, "queue-dash": 1004}, auth=False
)


def choose(
    wishes: Wishes, last: Settings | None = None, *, in_use: tuple[int, ...] = (), standard: bool = True
) -> Settings:
    free = count(50_000)
    choice = PortChoice(usable=lambda _service, port: port not in in_use, free=lambda: next(free))
    return resolve(wishes, last, choice, standard_ports=standard)


def test_the_defaults_are_the_standard_ports_and_a_password() -> None:
    settings = choose(Wishes())

    assert (settings.ports, settings.auth, settings.influx) == (PORTS, True, None)
    assert settings.slots >= 1


def test_what_is_not_said_stays_as_it_was() -> None:
    assert choose(Wishes(), LAST) == LAST


def test_what_is_said_wins() -> None:
    settings = choose(Wishes(slots=5, file_port=7000, auth=True), LAST)

    assert (settings.slots, settings.ports["filestore"], settings.auth) == (5, 7000, True)
    assert settings.ports["queue"] == 1001


@pytest.mark.parametrize(
    ("wishes", "last", "in_use", "standard", "port"),
    [
        (Wishes(redis_port=0), None, (), True, 50_000),
        (Wishes(redis_port=0), LAST, (), True, 1001),
        (Wishes(redis_port=0), LAST, (1001,), True, 50_000),
        (Wishes(), None, (6379,), True, 6379),
        (Wishes(), None, (6379,), False, 50_000),
        (Wishes(), LAST, (1001,), False, 1001),
    ],
)
def test_port_0_takes_a_free_port_and_keeps_it_while_it_can(
    wishes: Wishes, last: Settings | None, in_use: tuple[int, ...], standard: bool, port: int
) -> None:
    assert choose(wishes, last, in_use=in_use, standard=standard).ports["queue"] == port


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        (Wishes(slots=0), "at least one slot, got 0"),
        (
            Wishes(redis_port=25478),
            "--redis-port and --file-port: queue and filestore cannot share",
        ),
        (Wishes(dash_port=70_000), "--dash-port: a port is a number from 1 to 65535, or 0, got 70000"),
    ],
)
def test_impossible_wishes_are_refused(wishes: Wishes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose(wishes)


def test_another_influxdb_is_remembered_until_an_empty_url_ends_it() -> None:
    first = choose(Wishes(influx_url="http://influx:8086/", influx_org="lab"))
    assert first.influx == Influx("http://influx:8086", "lab", "cloudburst")
    assert choose(Wishes(), first).influx == first.influx
    assert choose(Wishes(influx_url=""), first).influx is None


@pytest.mark.parametrize("settings", [LAST, Settings(1, PORTS, influx=Influx("http://influx:8086"))])
def test_settings_are_read_as_they_were_saved(settings: Settings, tmp_path: Path) -> None:
    settings.save(tmp_path / "settings.json")

    assert Settings.load(tmp_path / "settings.json") == settings


def test_no_settings_are_none_and_broken_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    assert Settings.load(path) is None

    path.write_text('{"slots": 2}')

    with pytest.raises(ConfigError, match=r"settings\.json: not the settings of a stack"):
        Settings.load(path)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths(tmp_path)
    paths.make()
    return paths


def ensure(paths: Paths, settings: Settings, **wishes: Any) -> secrets.Secrets:
    return secrets.ensure(paths, settings, Wishes(**wishes))


def test_secrets_are_made_once_and_for_this_users_eyes_only(paths: Paths) -> None:
    settings = Settings(1, PORTS)

    first, second = ensure(paths, settings), ensure(paths, settings)

    assert first == second
    assert len({first.redis_password, first.filestore_token, first.influx_token}) == 3
    assert {path.stat().st_mode & 0o777 for path in (paths.root / "secrets").iterdir()} == {0o600}
    assert first.redis_password not in repr(first)


def test_a_given_token_serves_for_files_and_points_and_stays(paths: Paths) -> None:
    settings = Settings(1, PORTS)

    given, later = ensure(paths, settings, token="fixed"), ensure(paths, settings)

    assert (given.filestore_token, given.influx_token) == ("fixed", "fixed")
    assert later == given


def test_the_token_of_another_influxdb_is_never_ours(paths: Paths) -> None:
    elsewhere = Settings(1, PORTS, influx=Influx("http://influx:8086"))

    theirs = ensure(paths, elsewhere, token="fixed", influx_token="theirs")
    ours = ensure(paths, Settings(1, PORTS))

    assert (theirs.filestore_token, theirs.influx_token) == ("fixed", "theirs")
    assert ours.influx_token not in {"theirs", ""}
    assert ensure(paths, elsewhere).influx_token == "theirs"


def test_variables_for_builds_stay_until_they_are_said_to_be_empty(paths: Paths) -> None:
    said = {"CLOUDBURST_BUILD_TOKEN": "s3cret", "PIP_INDEX_URL": "https://mirror.example/simple"}

    first = ensure(paths, LAST, builds=said)
    later = ensure(paths, LAST, builds={"PIP_INDEX_URL": ""})

    assert first.builds == said
    assert later.builds == {"CLOUDBURST_BUILD_TOKEN": "s3cret"}
    assert "s3cret" not in repr(Wishes(builds=said))
    assert paths.secret("builds.json").stat().st_mode & 0o777 == 0o600


def test_what_a_pipfile_may_name_is_handed_over_in_private_files(paths: Paths) -> None:
    said = {"CLOUDBURST_BUILD_TOKEN": "s3cret", "CLOUDBURST_BUILD_KEY_FILE": "/key", "PIP_CERT": "/ca.pem"}

    variables, files = builds.handed_over(paths, said)

    assert variables == {
        "CLOUDBURST_BUILD_TOKEN_FILE": str(paths.secret("build-TOKEN")),
        "CLOUDBURST_BUILD_KEY_FILE": "/key",
        "PIP_CERT": "/ca.pem",
    }
    assert files == {paths.secret("build-TOKEN"): "s3cret"}


def test_without_auth_redis_has_no_password(paths: Paths) -> None:
    assert ensure(paths, LAST).redis_password == ""
