"""What a Pipfile and its lock may say, on the client and on every node alike."""

from __future__ import annotations

import json
import tomllib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudburst.archive.pipfile import (
    local_packages,
    local_path,
    markers,
    read_lock,
    read_pipfile,
    to_toml,
    without_marker_keys,
)
from cloudburst.errors import PayloadError

HERE = {"mylib/pyproject.toml", "libs/old/setup.py", "wheels/x-1.whl", "setup.cfg", "data/a.csv"}


def refusal(text: str) -> str:
    with pytest.raises(PayloadError) as caught:
        local_packages(read_pipfile(text.encode())[1], HERE.__contains__)
    return str(caught.value)


class TestPipfile:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            '[requires]\npython_version = "3.11"\n',
            '[requires]\npython_full_version = "3.11.7"\n[dev-packages]\npytest = "*"\n',
            '[packages]\na = "*"\nb = ">=1,<2"\nc = "~=1.4.2"\nd = "==2.*"\n"f[g]" = "==1!2"\n',
            '[packages]\ne = "1.0+cpu"\na = {git = "https://git.example/a.git", ref = "abc"}\nb = "git+ssh://git@h/b"\n',
            '[packages]\na = {git = "git@git.example:me/a.git"}\nb = {file = "https://x.example/b.whl"}\n',
            '[[source]]\nurl = "https://x"\nname = "x"\n[packages.a]\nversion = "*"\nindex = "x"\n',
        ],
    )
    def test_the_usual_forms(self, text: str) -> None:
        assert read_pipfile(text.encode()) == (text, tomllib.loads(text))

    def test_a_byte_order_mark_is_no_part_of_it(self) -> None:
        assert read_pipfile(b'\xef\xbb\xbf[packages]\na = "*"\n')[0].startswith("[packages]")

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ('[requires]\npython_version = ">=3.9"', "python_version: should be one version such as"),
            ("[requires]\npython_version = 3.11", "a number loses its zeros: write it in quotes"),
            ('requires = "3.11"', "[requires]: should be a table"),
            ('packages = ["a"]', "[packages]: should be a table"),
            ("[packages]\na = 1.1", '[packages] a: should be a version such as "*"'),
            ("[packages]\na = true", "[packages] a: should be a version"),
            ('[packages]\na = "latest"', "[packages] a: should be a version"),
            ('[packages]\na = "./mylib"', "a package of the payload itself is {path = './mylib'}"),
            ('[packages]\na = "@ file:mylib"', "a package of the payload itself is {path = './mylib'}"),
            ('[packages]\n"./mylib" = "*"', "not the name of a package"),
            ('[packages]\n"a @ ./mylib" = "*"', "not the name of a package"),
            ('[packages]\na = {git = "./a"}', "the URL of a repository that all nodes reach"),
            ('[packages]\na = {git = "file:///srv/a"}', "the URL of a repository that all nodes reach"),
            ('[packages]\na = {path = "mylib", git = "https://x"}', "path and git: give one of"),
            ('[packages]\na = {uri = "mylib"}', "uri: give one of path, file and git"),
            ('[packages]\na = {path = "mylib", extras = "fast"}', "extras: should be a list of names"),
            ('[packages]\na = {version = "*", markers = true}', "markers: should be a text"),
            ('source = "https://x"', "[[source]]: should be a table with url and name"),
            ('[[source]]\nname = "x"', "[[source]] url: should be a text"),
        ],
    )
    def test_what_nobody_can_mean(self, text: str, says: str) -> None:
        assert says in refusal(text)
        assert refusal(text).startswith("Pipfile: ")

    def test_another_encoding(self) -> None:
        with pytest.raises(PayloadError, match="Pipfile: not UTF-8 text"):
            read_pipfile("[packages]\n".encode("utf-16"))


class TestLocalPackages:
    @pytest.mark.parametrize("section", ["packages", "dev-packages", "extra"])
    @pytest.mark.parametrize("path", ["mylib", "./mylib/", "libs/../mylib", "file:mylib", ".\\\\mylib"])
    def test_all_forms_of_one_path(self, path: str, section: str) -> None:
        for key in ("path", "file"):
            _, table = read_pipfile(f'[{section}]\na = {{{key} = "{path}"}}'.encode())
            assert local_packages(table, HERE.__contains__)[section] == {"a": "mylib"}

    def test_the_payload_itself_an_old_project_and_a_wheel(self) -> None:
        _, table = read_pipfile(
            b'[packages]\na = {path = "."}\nb = {path = "libs/old"}\nc = {file = "wheels/x-1.whl"}\nd = "*"'
        )
        found = local_packages(table, HERE.__contains__)
        assert found == {"packages": {"a": ".", "b": "libs/old", "c": "wheels/x-1.whl"}}

    @pytest.mark.parametrize(
        "path", ["../mylib", "..", "/opt/mylib", "~/mylib", "file:///opt/mylib", "C:/mylib", "mylib/../../x"]
    )
    def test_what_leads_out(self, path: str) -> None:
        assert "leads out of the payload" in refusal(f'[packages]\na = {{path = "{path}"}}')

    @pytest.mark.parametrize("path", ["nosuch", "data", "data/a.csv", "MYLIB", "wheels/y.whl"])
    def test_what_is_not_there(self, path: str) -> None:
        assert "the payload has no package at" in refusal(f'[dev-packages]\na = {{path = "{path}"}}')

    @pytest.mark.parametrize("path", ["", " ", "my$lib", "a#b", "a;b", "a[b]", "a\\\\u0000b"])
    def test_what_tools_would_take_for_something_else(self, path: str) -> None:
        assert refusal(f'[packages]\na = {{path = "{path}"}}')

    @given(st.text(min_size=1))
    @settings(deadline=None)
    def test_whatever_the_path_it_is_inside_or_refused(self, path: str) -> None:
        try:
            found = local_path("Pipfile", {"path": path})
        except PayloadError:
            return
        assert found is None or not {"..", "", "~"} & set(found.split("/"))


class TestLock:
    def test_the_usual_form(self) -> None:
        text = json.dumps(
            {
                "_meta": {"hash": {"sha256": "0"}, "sources": [{"name": "pypi", "url": "https://x"}]},
                "default": {"a": {"version": "==1.0", "hashes": []}, "b": {"git": "https://x/y", "ref": "1"}},
                "develop": {"c": {}},
            }
        )
        assert read_lock(text.encode()) == (text, json.loads(text))

    @pytest.mark.parametrize(
        "text",
        [
            *("", "[]", "<<<<<<< HEAD", '{"default": []}', '{"default": {"a": "1"}}', '{"_meta": []}'),
            *('{"default": {"a": {"version": "@ ./mylib"}}}', '{"default": {"a": {"git": "./a"}}}'),
            *('{"default": {"../a": {}}}', '{"default": {"a": {"uri": "./a"}}}', "[" * 100_000, "\xff\xfe"),
        ],
    )
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(PayloadError, match=r"Pipfile\.lock: "):
            read_lock(text.encode("latin-1"))


def test_where_a_package_is_installed_is_said_in_one_form() -> None:
    entry = {"version": "*", "sys_platform": "== 'linux'", "markers": "python_version > '3.8'"}

    assert markers({"markers": "os_name == 'nt'"}) == "os_name == 'nt'"
    assert without_marker_keys(entry) == {
        "version": "*",
        "markers": "(sys_platform == 'linux') and (python_version > '3.8')",
    }


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.dictionaries(
        st.sampled_from(["packages", "dev-packages", "pipenv"]),
        st.dictionaries(
            TEXT,
            st.booleans()
            | TEXT
            | st.lists(TEXT, max_size=3)
            | st.dictionaries(TEXT, st.integers(), max_size=3),
            max_size=4,
        ),
    )
)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_written_is_what_was_read(table: dict[str, dict[str, object]]) -> None:
    assert tomllib.loads(to_toml(table)) == table
