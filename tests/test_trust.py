"""TLS to a stack's services: its own authority is the only one believed, and each refusal says what to do."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cloudburst import Stack, config, trust
from cloudburst.errors import CloudburstError, ConfigError, FileStoreError, QueueError
from cloudburst.filestore.client import FileStore
from cloudburst.model import Endpoints
from cloudburst.points.database import Away, Database, Login
from cloudburst.rqwire import connection
from cloudburst.stack import stackfile
from tests.certificates import Authority, TlsFront
from tests.cli.shell import Shell
from tests.conftest import RedisServer, free_port, redis_binary
from tests.ensemble.parts import TOKEN, endpoints, file_store, payload
from tests.wait import wait_until


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="module")
def filestore_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with file_store(tmp_path_factory.mktemp("files")) as url:
        yield url


@pytest.fixture
def fronted(redis_server: RedisServer, filestore_url: str) -> Iterator[Callable[[ssl.SSLContext], Endpoints]]:
    """Endpoints behind TLS with that certificate: of Redis, of a file store."""
    fronts: list[TlsFront] = []

    def make(context: ssl.SSLContext) -> Endpoints:
        plain = endpoints(redis_server, filestore_url)
        for port in (redis_server.port, int(filestore_url.rpartition(":")[2])):
            fronts.append(TlsFront(port, context))
        queue, files = fronts[-2:]
        url = plain.redis_url.replace("redis://", "rediss://").replace(
            f":{redis_server.port}/", f":{queue.port}/"
        )
        where = f"https://127.0.0.1:{files.port}"
        return replace(plain, redis_url=url, filestore_url=where, influx_url=where)

    yield make
    for front in fronts:
        front.close()


def attempts(where: Endpoints) -> list[Callable[[], object]]:
    """Each of the three ways to a service."""
    login = Login(where.influx_url, "t", "o", "b", where.ca_file)
    return [
        lambda: connection.connect(where.redis_url, ca_file=where.ca_file),
        lambda: FileStore(where.filestore_url, TOKEN, ca_file=where.ca_file).list(),
        lambda: Database(login, timeout_s=5).write(b"m f=1 1\n"),
    ]


def test_the_whole_client_works_over_tls(
    fronted: Callable[[ssl.SSLContext], Endpoints],
    authority: Authority,
    tmp_path: Path,
    redis_server: RedisServer,
) -> None:
    # given: a stack's directory as it was copied from elsewhere, with its ca.pem beside the endpoints
    where = replace(fronted(authority.server), ca_file="ca.pem")
    payload(tmp_path / "model")
    shell = Shell(tmp_path, where, redis_server.client())
    shutil.copy(authority.certificate, tmp_path / "home" / "local" / "ca.pem")
    stack = Stack(config.endpoints(shell.environ, "local"))

    # when
    ensemble = stack.submit(
        "e", function="worker.work", payload=tmp_path / "model", jobs=[{"seed": seed} for seed in range(5)]
    )
    with shell.worker(lambda params: params):
        wait_until(lambda: ensemble.status().complete, 20, "the ensemble to end")

    # then
    assert stack.queue_depth() == 0
    done = shell("status")
    assert (done.returncode, done.stderr) == (0, "")
    assert "e-" in done.stdout


def test_an_exported_stack_brings_its_authority(
    fronted: Callable[[ssl.SSLContext], Endpoints],
    authority: Authority,
    tmp_path: Path,
    redis_server: RedisServer,
) -> None:
    # given: a stack as it is known where it was deployed
    where = replace(fronted(authority.server), ca_file="ca.pem")
    shell = Shell(tmp_path, where, redis_server.client())
    shutil.copy(authority.certificate, tmp_path / "home" / "local" / "ca.pem")

    # when
    text = stackfile.exported(shell.environ, "local")
    shutil.rmtree(tmp_path / "home")
    environ = {"CLOUDBURST_HOME": str(tmp_path / "elsewhere")}
    stackfile.imported(environ, text, "floods.stack", "local")

    # then
    stack = Stack(config.endpoints(environ, "local"))
    assert stack.queue_depth() == 0
    FileStore(where.filestore_url, TOKEN, ca_file=stack.endpoints.ca_file).list()
    ca = tmp_path / "elsewhere" / "local" / "ca.pem"
    assert (ca.read_text(), ca.stat().st_mode & 0o777) == (authority.certificate.read_text(), 0o600)


@pytest.mark.parametrize(
    ("alternatives", "expired", "advice"),
    [
        ("IP:127.0.0.1", True, "expired: deploy the stack again, which renews it"),
        (
            "IP:10.1.2.3,DNS:elsewhere",
            False,
            "for another name or address: use the one that the stack was deployed",
        ),
    ],
)
def test_a_certificate_that_does_not_fit_is_refused(
    fronted: Callable[[ssl.SSLContext], Endpoints],
    authority: Authority,
    alternatives: str,
    expired: bool,
    advice: str,
) -> None:
    context = authority.context("bad", alternatives, expired=expired)
    where = replace(fronted(context), ca_file=str(authority.certificate))

    for attempt in attempts(where):
        with pytest.raises(CloudburstError, match=advice):
            attempt()


def test_no_other_authority_is_believed_even_if_the_machine_trusts_it(
    fronted: Callable[[ssl.SSLContext], Endpoints],
    authority: Authority,
    other: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(other.certificate))
    where = replace(fronted(other.server), ca_file=str(authority.certificate))

    for attempt in attempts(where):
        with pytest.raises(
            CloudburstError, match=r"not from this stack's authority, .*ca.pem: something else"
        ):
            attempt()

    # Without an authority of its own, a stack may have a certificate that the machine trusts.
    assert connection.connect(where.redis_url).ping()


def test_without_the_stacks_authority_its_certificates_are_not_believed(
    fronted: Callable[[ssl.SSLContext], Endpoints], authority: Authority
) -> None:
    for attempt in attempts(fronted(authority.server)):
        with pytest.raises(CloudburstError, match=r"name the stack's ca\.pem as ca_file"):
            attempt()


def test_a_service_without_tls_is_named(redis_server: RedisServer, filestore_url: str) -> None:
    url = f"rediss://127.0.0.1:{redis_server.port}/0"

    with pytest.raises(QueueError, match=f"127.0.0.1:{redis_server.port}"):
        connection.connect(url, timeout_s=2)
    with pytest.raises(FileStoreError, match="no TLS connection comes about"):
        FileStore(filestore_url.replace("http:", "https:"), TOKEN).list()


def test_a_lasting_refusal_is_not_waited_for(
    fronted: Callable[[ssl.SSLContext], Endpoints], other: Authority, authority: Authority
) -> None:
    where = replace(fronted(other.server), ca_file=str(authority.certificate))

    with pytest.raises(Away) as failure:
        attempts(where)[2]()

    assert failure.value.setting == "INFLUX_URL"


@pytest.mark.parametrize(
    ("text", "message"), [(None, "cannot read"), ("no certificate", "holds no certificate")]
)
def test_a_file_that_is_no_authority_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)

    with pytest.raises(ConfigError, match=message):
        trust.context(str(path))


def test_redis_own_tls_is_spoken(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("redis")
    port = free_port()
    argv = [redis_binary(), "--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no", "--save", ""]
    argv += ["--tls-cert-file", certificate, "--tls-key-file", key, "--dir", tmp_path, "--requirepass", "pw"]
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen([*map(str, argv)], stdout=file, stderr=file)
    try:
        wait_until(lambda: "eady to" in log.read_text() or process.poll() is not None, 10, "Redis to start")
        if process.poll() is not None and "tls" in log.read_text():
            pytest.skip("this Redis was built without TLS")
        url = f"rediss://default:pw@127.0.0.1:{port}/0"
        ca_file = str(authority.certificate)
        assert wait_until(lambda: _connected(url, ca_file), 10, "Redis to answer").ping()
    finally:
        process.kill()
        process.wait()


def _connected(url: str, ca_file: str) -> connection.Redis | None:
    try:
        return connection.connect(url, ca_file=ca_file)
    except QueueError:
        return None
