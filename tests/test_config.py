"""Settings of builds and payloads, read from variables and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudburst import config
from cloudburst.errors import ConfigError


def test_variables_for_builds_are_given_as_values_or_as_files(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    environ = {
        "CLOUDBURST_BUILD_USER": "ada",
        "CLOUDBURST_BUILD_TOKEN_FILE": str(tmp_path / "token"),
        "CLOUDBURST_BUILD_": "nameless",
        "REDIS_PASSWORD": "x",
    }

    assert config.build_variables(environ) == {"USER": "ada", "TOKEN": "s3cret"}


def test_a_file_for_builds_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"CLOUDBURST_BUILD_TOKEN_FILE: cannot read .*gone"):
        config.build_variables({"CLOUDBURST_BUILD_TOKEN_FILE": str(tmp_path / "gone")})


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        *((name, True) for name in ("CLOUDBURST_BUILD_X", "https_proxy", "PIP_INDEX_URL", "SSL_CERT_FILE")),
        *((name, False) for name in ("CLOUDBURST_STATE_DIR", "PIP_USER", "HOME", "REDIS_PASSWORD")),
    ],
)
def test_a_stack_keeps_what_is_about_building_environments(name: str, kept: bool) -> None:
    assert (name in config.for_builds({name: "x"})) is kept


def test_debian_packages_are_a_list_of_names(tmp_path: Path) -> None:
    (tmp_path / "cloudburst.toml").write_text('apt = ["libgeos-c1v5", "libc6:amd64"]\n')

    assert config.payload_settings(tmp_path).apt == ("libgeos-c1v5", "libc6:amd64")


def test_modules_to_import_ahead_are_a_list_of_their_dotted_names(tmp_path: Path) -> None:
    (tmp_path / "cloudburst.toml").write_text('preload = ["wntr", "scipy.sparse", "größe_1"]\n')

    assert config.payload_settings(tmp_path).preload == ("wntr", "scipy.sparse", "größe_1")


@pytest.mark.parametrize("value", ['"wntr"', "[1]", '["os; exit"]', '["a..b"]', '["1a"]', '[""]'])
def test_what_no_module_can_be_called_is_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / "cloudburst.toml").write_text(f"preload = {value}\n")

    with pytest.raises(ConfigError, match=r"cloudburst\.toml: preload: "):
        config.payload_settings(tmp_path)


@pytest.mark.parametrize("value", ['"gcc"', "[1]", '["--force"]', '["Not A Name"]'])
def test_something_else_is_not(tmp_path: Path, value: str) -> None:
    (tmp_path / "cloudburst.toml").write_text(f"apt = {value}\n")

    with pytest.raises(ConfigError, match=r"cloudburst\.toml: apt: "):
        config.payload_settings(tmp_path)


def test_variables_for_builds_come_from_a_file_where_the_environment_has_none(tmp_path: Path) -> None:
    path = tmp_path / "builds.json"
    path.write_text('{"PIP_INDEX_URL": "https://mirror", "CLOUDBURST_BUILD_USER": "ada"}')
    environ = {"CLOUDBURST_BUILDS_FILE": str(path), "PIP_INDEX_URL": "https://own", "PATH": "/bin"}

    assert config.worker_environ(environ) == environ | {"CLOUDBURST_BUILD_USER": "ada"}
    assert config.worker_environ({"PATH": "/bin"}) == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("PIP_INDEX_URL=x", "is not JSON"),
        ("[]", "object of texts"),
        ('{"PIP_RETRIES": 1}', "object of texts"),
        ('{"REDIS_HOST": "elsewhere"}', "do not read REDIS_HOST"),
    ],
)
def test_a_file_of_something_else_than_variables_for_builds_is_refused(
    tmp_path: Path, text: str, why: str
) -> None:
    path = tmp_path / "builds.json"
    path.write_text(text)

    with pytest.raises(ConfigError, match=rf"CLOUDBURST_BUILDS_FILE: .*{why}"):
        config.worker_environ({"CLOUDBURST_BUILDS_FILE": str(path)})
