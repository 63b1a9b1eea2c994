"""What a stack keeps on this machine, after somebody or something has damaged it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cloudburst.errors import ConfigError
from cloudburst.stack import builds, records
from cloudburst.stack.paths import Paths
from cloudburst.stack.settings import Settings


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths(tmp_path / "stack")
    paths.root.mkdir()
    paths.make()
    return paths


DAMAGE = [b"\xff\xfe\x00", b"[", b"null", b"5", b"[]", b"{}", b'{"slots": "many"}', b'"text"']


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_settings_are_named(paths: Paths, damage: bytes) -> None:
    paths.settings.write_bytes(damage)

    with pytest.raises(ConfigError, match=r"settings\.json: not the settings of a stack"):
        Settings.load(paths.settings)


@pytest.mark.parametrize(
    "damage",
    [
        *DAMAGE,
        *(
            json.dumps({"process": process, "grace_s": 1, "settings": {}}).encode()
            for process in (
                {"pid": "x", "started_at": 1, "born_s": 1},
                {"pid": 5, "started_at": None, "born_s": 1},
                {"pid": float("inf"), "started_at": 1, "born_s": 1},
                [],
            )
        ),
    ],
)
def test_a_damaged_record_is_as_good_as_none(paths: Paths, damage: bytes) -> None:
    paths.record("queue").write_bytes(damage)

    assert records.read(paths) == {}


@pytest.mark.parametrize("damage", [damage for damage in DAMAGE if damage not in {b"{}", b"[]", DAMAGE[6]}])
def test_damaged_build_variables_are_named(paths: Paths, damage: bytes) -> None:
    paths.secret("builds.json").write_bytes(damage)

    with pytest.raises(ConfigError, match="not what a stack keeps"):
        builds.remember(paths, {})
