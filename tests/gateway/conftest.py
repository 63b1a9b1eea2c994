"""The gateway's own configuration under this machine's nginx, in front of real services and of a recorder."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from cloudburst.stack.swarm import secrets
from tests.certificates import Authority
from tests.conftest import free_port
from tests.influx import program
from tests.influx2 import OPERATOR, Influx2
from tests.wait import wait_until

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ROOT / "images" / "gateway"
WRITE, READ = "Write-Token_1", "Read-Token_2"
OWN = {"read": "own-read-token==", "write": "own-write-token=="}
"""The database's, in front of a recorder."""
FILES = "files-token"


def bearer(token: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {token}"}


@dataclass(frozen=True)
class Asked:
    """What the database was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Recorder:
    """Stands for InfluxDB 2 and for Grafana, which cannot be had here: says 204 to everything."""

    asked: list[Asked] = field(default_factory=list)

    def serve(self) -> ThreadingHTTPServer:
        asked = self.asked

        class Answer(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                while self.headers.get("Transfer-Encoding") and (
                    size := int(self.rfile.readline().strip() or b"0", 16)
                ):
                    body += self.rfile.read(size + 2)[:-2]
                asked.append(Asked(self.command, self.path, dict(self.headers), body))
                self.send_response(204)
                self.end_headers()

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server


@dataclass(frozen=True)
class Gateway:
    """Where it is, for everybody and for the stack's own services; and who is behind it."""

    outside: str
    inside: str
    ca_file: str
    influx: Recorder
    grafana: Recorder
    log: Path

    @property
    def tokens_made(self) -> int:
        """How often it had the database make its tokens."""
        return self.log.read_text().count("the database has made a token for each role")

    def raw(self, method: str, path: str, **options: object) -> requests.Response:
        """A request whose path is sent as it is, to the outside."""
        with requests.Session() as session:
            session.trust_env = False
            asked = session.prepare_request(requests.Request(method, self.outside, **options))  # type: ignore[arg-type]
            asked.url = self.outside + path
            return session.send(asked, verify=self.ca_file, timeout=10, allow_redirects=False)


def tokens_conf() -> str:
    """As a deployment makes it."""
    fields = dict.fromkeys(secrets.Secrets.__dataclass_fields__, "")
    own = {"influx_write_token": WRITE, "influx_read_token": READ}
    return secrets._gateway_tokens(secrets.Secrets(**(fields | own)))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module", params=["1"])
def gateway(
    request: pytest.FixtureRequest, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """In front of a recorder. The parameter: CLOUDBURST_GRAFANA_REPLICAS."""
    directory = tmp_path_factory.mktemp("gateway")
    influx = Recorder()
    server = influx.serve()
    with started(directory, authority, server.server_port, influx, replicas=request.param) as found:
        yield found
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def guarded(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, Influx2]]:
    """In front of a database that guards itself, whose tokens it asks for as in its image."""
    directory = tmp_path_factory.mktemp("guarded")
    influx = Influx2(directory)
    influx.start()
    with started(directory, authority, influx.port) as found:
        wait_until(lambda: found.tokens_made == 1, 20, "the database's tokens")
        yield found, influx
    influx.stop()


@contextlib.contextmanager
def started(
    directory: Path, authority: Authority, port: int, influx: Recorder | None = None, replicas: str = "1"
) -> Iterator[Gateway]:
    """With a database at ``port``. What stands for it as a recorder makes no tokens: it has some."""
    grafana = Recorder()
    server = grafana.serve()
    files_port, outside, inside = free_port(), free_port(), free_port()
    certificate, key = authority.issue("gateway", "IP:127.0.0.1")
    (directory / "tokens.conf").write_text(tokens_conf())
    (directory / "users.htpasswd").write_text("cloudburst:{PLAIN}dash\n")
    (directory / "influx-token").write_text(OPERATOR)
    (directory / "tmp").mkdir()
    replaced = {
        "/usr/share/cloudburst/pages": str(IMAGE / "pages"),
        "/usr/local/lib/cloudburst/authorize": "true" if influx else str(directory / "authorize"),
        "/run/secrets/tls.crt": str(certificate),
        "/run/secrets/tls.key": str(key),
        "/run/secrets/": f"{directory}/",
        "/etc/nginx/": f"{directory}/",
        "/tmp/": f"{directory}/tmp/",
        "include mime.types": "include /etc/nginx/mime.types",
        "include influx.conf": f"include {directory}/influx.conf",
        "listen 8086": f"listen 127.0.0.1:{inside}",
        "listen 8443": f"listen 127.0.0.1:{outside}",
        "$filestore:25478": f"127.0.0.1:{files_port}",
        "$influx:8086": f"127.0.0.1:{port}",
        "http://influx:8086": f"http://127.0.0.1:{port}",
        "$grafana:3000": f"127.0.0.1:{server.server_port}",
        "/dev/stdout": f"{directory}/access.log",
        "worker_processes auto;": "worker_processes 1; user root root;",
    }
    for path in (*IMAGE.glob("*.conf"), IMAGE / "authorize"):
        (directory / path.name).write_text(with_ours(path.read_text(), replaced))
    (directory / "authorize").chmod(0o755)
    log = (directory / "log").open("ab")
    # What the image's entry point does, in this directory.
    entry = with_ours((IMAGE / "entry").read_text().partition("exec ")[0], replaced)
    settings = {
        "CLOUDBURST_GRAFANA_REPLICAS": replicas,
        "CLOUDBURST_FILES_DIR": str(directory / "files"),
        "CLOUDBURST_FILESTORE_PORT": str(files_port),
        "CLOUDBURST_FILESTORE_TOKEN": FILES,
    }
    environ = os.environ | settings
    processes = [
        subprocess.Popen(["bash", "-c", f"{entry}\nwait"], env=environ, stderr=log, start_new_session=True),
        subprocess.Popen([sys.executable, "-P", "-m", "cloudburst.filestore"], env=environ, stderr=log),
    ]
    tokens = directory / "tmp/influx-tokens.conf"
    wait_until(tokens.exists, 20, "the entry point")
    if influx:
        own = f'read "Token {OWN["read"]}"; write "Token {OWN["write"]}";'
        tokens.write_text(f'map $influx_role $influx_authorization {{ default ""; {own} }}')
    nginx = [program("nginx"), "-e", "stderr", "-c", f"{directory}/nginx.conf"]
    processes.append(subprocess.Popen(nginx, stderr=log))
    found = Gateway(
        f"https://127.0.0.1:{outside}",
        f"http://127.0.0.1:{inside}",
        str(authority.certificate),
        influx or Recorder(),
        grafana,
        directory / "log",
    )
    wait_until(lambda: answers(found), 20, f"the gateway to answer ({directory}/log)")
    yield found
    os.killpg(processes[0].pid, signal.SIGTERM)
    for process in processes:
        process.terminate()
        process.wait()
    server.shutdown()
    server.server_close()
    log.close()


def with_ours(text: str, replaced: Mapping[str, str]) -> str:
    """The text with all replacements, none of which is looked through again."""
    return re.sub("|".join(map(re.escape, replaced)), lambda match: replaced[match[0]], text)


def answers(gateway: Gateway) -> bool:
    try:
        return gateway.raw("GET", "/health").ok
    except requests.ConnectionError:
        return False
