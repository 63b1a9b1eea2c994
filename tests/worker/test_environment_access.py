"""Packages that are not for everybody: logins, certificates, proxies and mirrors, for pipenv and uv alike."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pipenv.patched.pip._internal.models.index import PyPI

from cloudburst.errors import BuildError
from cloudburst.worker import environment, interpreters
from cloudburst.worker.dependencies import Lock, Pipfile
from cloudburst.worker.environment import Environment, Recipe
from cloudburst.worker.tools import Tools
from tests.certificates import Authority
from tests.worker.forwarding_proxy import ForwardingProxy
from tests.worker.package_index import PackageIndex, make_wheel

pytestmark = pytest.mark.slow

LOGIN = ("ada", "s3cr3t-t0ken")
BUILD = {"CLOUDBURST_BUILD_PACKAGES_USER": LOGIN[0], "CLOUDBURST_BUILD_PACKAGES_TOKEN": LOGIN[1]}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def private(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PackageIndex]:
    """An index with a login, over HTTPS, with a certificate that nobody knows."""
    index = PackageIndex(tmp_path_factory.mktemp("private"), login=LOGIN, tls=authority.server)
    yield index
    index.close()


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    home = tmp_path / "home"
    home.mkdir()
    return {"PATH": os.environ["PATH"], "HOME": str(home), "PIP_TIMEOUT": "10", "PIP_RETRIES": "0"}


def pipfile(index: PackageIndex, login: str = "${PACKAGES_USER}:${PACKAGES_TOKEN}@") -> str:
    return (
        f'[[source]]\nname = "mine"\nurl = "https://{login}{index.address}/simple"\nverify_ssl = true\n'
        f'[packages]\ntide = "*"\n'
    )


def payload(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Pipfile").write_text(text)
    return folder


def locked(**wheels: Path) -> Lock:
    """A lock of those wheels, with their hashes."""
    entries = {
        name: {
            "version": f"=={wheel.name.split('-')[1]}",
            "hashes": [f"sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"],
        }
        for name, wheel in wheels.items()
    }
    return Lock(json.dumps({"_meta": {"sources": []}, "default": entries, "develop": {}}))


def build(folder: Path, text: str, lock: Lock, environ: Mapping[str, str]) -> Environment:
    """Install a lock without asking pipenv whether it matches."""
    recipe = Recipe(Pipfile.of(payload(folder / "payload", text)), lock, interpreters.find("", environ))
    return environment.build(recipe, folder / "environments", Tools.of(environ, folder / "environments"))


def pipenv_lock(project: Path, text: str) -> str:
    """That lock as pipenv would have made it for the project's Pipfile, on a machine without settings."""
    code = "from pipenv.project import Project; print(Project().pipfile.calculate_hash())"
    plain = {"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=plain | {"PIPENV_PIPFILE": str(project / "Pipfile"), "PIPENV_IGNORE_VIRTUALENVS": "1"},
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
    )
    lock = json.loads(text)
    lock["_meta"] = {
        "hash": {"sha256": done.stdout.strip()},
        "pipfile-spec": 6,
        "requires": {},
        "sources": [],
    }
    return json.dumps(lock)


def holders(folder: Path, text: str) -> list[Path]:
    """Files anywhere below that contain ``text``."""
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_a_private_package_is_locked_and_installed_and_its_login_is_kept_nowhere(
    private: PackageIndex, authority: Authority, environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text(LOGIN[1] + "\n")
    given = {
        "CLOUDBURST_BUILD_PACKAGES_USER": LOGIN[0],
        "CLOUDBURST_BUILD_PACKAGES_TOKEN_FILE": str(tmp_path / "secrets" / "token"),
        "PIP_CERT": str(authority.certificate),
    }
    model, state = payload(tmp_path / "payload", pipfile(private)), tmp_path / "state"

    built = environment.of_payload(model, state, environ=environ | given)

    assert {wheel.name for wheel in private.wheels[1:]} <= {Path(asked).name for asked in private.requests}
    assert "${PACKAGES_TOKEN}" in (built.directory / "Pipfile.lock").read_text()
    assert holders(state, LOGIN[1]) == []
    assert holders(Path(environ["HOME"]), LOGIN[1]) == []


def test_the_same_through_a_proxy(
    private: PackageIndex, authority: Authority, environ: dict[str, str], tmp_path: Path
) -> None:
    proxy = ForwardingProxy()
    given = BUILD | {"SSL_CERT_FILE": str(authority.certificate), "HTTPS_PROXY": proxy.url}
    model = payload(tmp_path / "payload", pipfile(private))

    try:
        environment.of_payload(model, tmp_path / "state", environ=environ | given)
    finally:
        proxy.close()

    assert set(proxy.asked) == {private.address}


def test_a_proxy_that_only_pip_is_told_of_is_uvs_too(
    private: PackageIndex, authority: Authority, environ: dict[str, str], tmp_path: Path
) -> None:
    proxy = ForwardingProxy()
    given = BUILD | {"REQUESTS_CA_BUNDLE": str(authority.certificate), "PIP_PROXY": proxy.url}

    try:
        build(tmp_path, pipfile(private), locked(rainfall=private.wheels[1]), environ | given)
    finally:
        proxy.close()

    assert set(proxy.asked) == {private.address}


def test_a_mirror_stands_in_for_the_default_source(environ: dict[str, str], tmp_path: Path) -> None:
    mirror = PackageIndex(tmp_path / "wheels")
    text = (
        f'[[source]]\nname = "pypi"\nurl = "{PyPI.simple_url}"\nverify_ssl = true\n'
        '[packages]\nrainfall = "*"\n'
    )
    model = payload(tmp_path / "payload", text)

    try:
        built = environment.of_payload(
            model, tmp_path / "state", environ=environ | {"PIP_INDEX_URL": mirror.url}
        )
    finally:
        mirror.close()

    lock = (built.directory / "Pipfile.lock").read_text()
    assert mirror.address not in lock
    assert PyPI.simple_url in lock
    assert (built.directory / ".venv").exists()
    assert {Path(asked).name for asked in mirror.requests} >= {"rainfall-1.1-py3-none-any.whl"}


def test_a_package_without_hashes_comes_from_the_index_that_the_lock_names_whatever_others_offer(
    environ: dict[str, str], tmp_path: Path
) -> None:
    ours = PackageIndex(
        tmp_path / "ours", [make_wheel(tmp_path / "ours", "levee", "1.0", code="BY = 'us'\n")]
    )
    theirs = PackageIndex(
        tmp_path / "theirs", [make_wheel(tmp_path / "theirs", "levee", "1.0", code="BY = 'them'\n")]
    )
    text = "".join(
        f'[[source]]\nname = "{name}"\nurl = "{index.url}"\nverify_ssl = false\n'
        for name, index in (("theirs", theirs), ("ours", ours))
    )
    text += '[packages]\nlevee = {version = "*", index = "ours"}\n'
    lock = Lock('{"_meta": {"sources": []}, "default": {"levee": {"version": "==1.0", "index": "ours"}}}')

    try:
        built = build(tmp_path, text, lock, environ | {"PIP_EXTRA_INDEX_URL": theirs.url})
    finally:
        ours.close()
        theirs.close()

    said = subprocess.run(
        [built.python, "-c", "import levee; print(levee.BY)"], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "us"
    assert theirs.requests == []


@pytest.mark.skipif(shutil.which("git") is None, reason="clones a repository")
def test_a_repository_with_a_login(environ: dict[str, str], tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "wheels", "levee", "0.5")
    repository = Repository(tmp_path / "served" / "levee", wheel)
    url = f"http://${{PACKAGES_USER}}:${{PACKAGES_TOKEN}}@{repository.address}/levee/.git"
    text = f'[packages]\nlevee = {{git = "{url}", ref = "{repository.revision}"}}\n'
    entry = {"git": url, "ref": repository.revision}

    try:
        built = build(tmp_path, text, Lock(json.dumps({"default": {"levee": entry}})), environ | BUILD)
    finally:
        repository.close()

    (noted,) = built.directory.rglob("direct_url.json")
    assert json.loads(noted.read_text())["vcs_info"]["commit_id"] == repository.revision
    assert holders(tmp_path / "environments", LOGIN[1]) == []


class Repository:
    """A git repository behind a login, served as plain files; its package is the contents of a wheel."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "pyproject.toml").write_text(
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            '[project]\nname = "levee"\nversion = "0.5"\n'
        )
        (folder / "backend.py").write_text(
            "import shutil\ndef build_wheel(directory, settings=None, metadata=None):\n"
            f"    return shutil.copy({str(wheel)!r}, directory).rpartition('/')[2]\n"
        )
        self._folder = folder
        for arguments in (["init"], ["add", "-A"], ["commit", "-m", "x"], ["update-server-info"]):
            self._git(*arguments)
        self.revision = self._git("rev-parse", "HEAD")
        files = functools.partial(_Files, directory=str(folder.parent))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), files)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _git(self, *arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        done = subprocess.run(
            ["git", *who, *arguments], cwd=self._folder, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()


class _Files(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if (
            self.headers.get("Authorization")
            == f"Basic {base64.b64encode(':'.join(LOGIN).encode()).decode()}"
        ):
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="packages"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class TestRefusals:
    def refusal(
        self, folder: Path, text: str, environ: Mapping[str, str], lock: Lock | None = None
    ) -> BuildError:
        if lock:
            with pytest.raises(BuildError) as caught:
                build(folder, text, lock, environ)
            return caught.value
        model = payload(folder / "payload", text)
        with pytest.raises(BuildError) as caught:
            environment.of_payload(model, folder / "environments", environ=environ)
        return caught.value

    def test_a_variable_that_is_not_there_is_named_with_how_to_give_it(
        self, private: PackageIndex, environ: dict[str, str], tmp_path: Path
    ) -> None:
        given = {"CLOUDBURST_BUILD_PACKAGES_USER": "ada"}

        error = self.refusal(tmp_path, pipfile(private), environ | given)

        assert "the Pipfile names ${PACKAGES_TOKEN}, which builds are not given: set" in error.args[0]
        assert "set CLOUDBURST_BUILD_PACKAGES_TOKEN (or the same with _FILE behind it" in error.args[0]

    @pytest.mark.parametrize("name", ["REDIS_PASSWORD", "FILE_HOST_TOKEN", "INFLUX_TOKEN", "HOME"])
    def test_no_variable_of_the_worker_can_be_named(
        self, private: PackageIndex, environ: dict[str, str], tmp_path: Path, name: str
    ) -> None:
        secrets = {"REDIS_PASSWORD": "a", "FILE_HOST_TOKEN": "b", "INFLUX_TOKEN": "c"}

        error = self.refusal(tmp_path, pipfile(private, f"x:${{{name}}}@"), environ | secrets)

        assert f"the Pipfile names ${{{name}}}, which builds are not given" in error.args[0]
        assert private.requests.count("x") == 0

    def test_a_wrong_login_when_resolving(
        self, private: PackageIndex, authority: Authority, environ: dict[str, str], tmp_path: Path
    ) -> None:
        wrong = BUILD | {
            "CLOUDBURST_BUILD_PACKAGES_TOKEN": "wr0ng-t0ken",
            "PIP_CERT": str(authority.certificate),
        }

        error = self.refusal(tmp_path, pipfile(private), environ | wrong)

        assert f"at {private.address} does not let this node in (401 Unauthorized)" in error.args[0]
        assert "wr0ng-t0ken" not in str(error)
        assert holders(tmp_path / "environments", "wr0ng-t0ken") == []

    def test_a_wrong_login_when_installing(
        self, private: PackageIndex, authority: Authority, environ: dict[str, str], tmp_path: Path
    ) -> None:
        wrong = BUILD | {
            "CLOUDBURST_BUILD_PACKAGES_TOKEN": "wr0ng-t0ken",
            "PIP_CERT": str(authority.certificate),
        }

        error = self.refusal(tmp_path, pipfile(private), environ | wrong, locked(rainfall=private.wheels[1]))

        assert "does not let this node in (401 Unauthorized)" in error.args[0]
        assert holders(tmp_path / "environments", "wr0ng-t0ken") == []

    @pytest.mark.parametrize("resolving", [True, False])
    def test_a_certificate_of_an_authority_that_this_node_does_not_know(
        self, private: PackageIndex, environ: dict[str, str], tmp_path: Path, resolving: bool
    ) -> None:
        lock = None if resolving else locked(rainfall=private.wheels[1])

        error = self.refusal(tmp_path, pipfile(private), environ | BUILD, lock)

        assert f"the certificate of the package index at {private.address} is signed by" in error.args[0]
        assert "PIP_CERT" in error.args[0]

    def test_a_certificate_file_that_is_not_there(
        self, private: PackageIndex, environ: dict[str, str], tmp_path: Path
    ) -> None:
        gone = {"PIP_CERT": str(tmp_path / "gone.pem")}

        error = self.refusal(tmp_path, pipfile(private), environ | BUILD | gone)

        assert f"PIP_CERT: cannot read {tmp_path}/gone.pem (No such file or directory)" in error.args[0]
