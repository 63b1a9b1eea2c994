"""The stack's own certificates, as TLS itself judges them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import stat
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloudburst.errors import ConfigError
from cloudburst.stack.swarm import certificates
from cloudburst.stack.swarm.certificates import Certificates, Pair
from cloudburst.stack.swarm.paths import SwarmPaths
from tests.certificates import Authority

NAMES = ("m.example.org", "10.0.0.1", "2001:db8::1", "queue")


@pytest.fixture
def paths(tmp_path: Path) -> SwarmPaths:
    paths = SwarmPaths(tmp_path / "swarm")
    paths.make()
    return paths


def handshake(made: Certificates, name: str, tmp_path: Path, client: Pair | None = None) -> str:
    """ "" if a client that trusts the authority alone gets through, else why not."""
    (tmp_path / "server.pem").write_text(made.server.certificate + made.server.key)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=made.authority)
    server.load_cert_chain(tmp_path / "server.pem")
    trusting = ssl.create_default_context(cadata=made.authority)
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT
    if client:
        server.verify_mode = ssl.CERT_REQUIRED
        (tmp_path / "client.pem").write_text(client.certificate + client.key)
        trusting.load_cert_chain(tmp_path / "client.pem")
    here, there = socket.socketpair()

    def serve() -> None:
        try:
            with server.wrap_socket(there, server_side=True) as connected:
                connected.sendall(b"x")
        except ssl.SSLError:
            there.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with trusting.wrap_socket(here, server_hostname=name) as connected:
            return "" if connected.recv(1) else "closed"
    except (ssl.SSLError, OSError) as error:
        return str(error)
    finally:
        here.close()
        thread.join()


@pytest.mark.parametrize("name", NAMES)
def test_the_master_is_known_by_all_its_names(paths: SwarmPaths, tmp_path: Path, name: str) -> None:
    assert handshake(certificates.ensure(paths, "s", NAMES), name, tmp_path) == ""


def test_another_name_is_refused(paths: SwarmPaths, tmp_path: Path) -> None:
    assert "mismatch" in handshake(certificates.ensure(paths, "s", NAMES), "b.example.org", tmp_path)


def test_nodes_are_known_by_their_certificate(paths: SwarmPaths, tmp_path: Path) -> None:
    made = certificates.ensure(paths, "s", NAMES)

    assert handshake(made, "queue", tmp_path, client=made.node) == ""


def test_the_certificate_of_another_stacks_node_is_refused(paths: SwarmPaths, tmp_path: Path) -> None:
    made = certificates.ensure(paths, "s", NAMES)
    theirs = SwarmPaths(tmp_path / "other")
    theirs.make()
    other = certificates.ensure(theirs, "s", NAMES)

    assert handshake(made, "queue", tmp_path, client=other.node) != ""


def test_the_servers_certificate_is_none_for_a_node(paths: SwarmPaths, tmp_path: Path) -> None:
    made = certificates.ensure(paths, "s", NAMES)

    assert handshake(made, "queue", tmp_path, client=made.server) != ""


def test_they_are_made_once(paths: SwarmPaths) -> None:
    first = certificates.ensure(paths, "s", NAMES)

    again = certificates.ensure(paths, "s", NAMES[:2])

    assert again.server.certificate == first.server.certificate
    assert again.node.certificate == first.node.certificate


def test_a_new_name_makes_a_new_certificate_of_the_same_authority(paths: SwarmPaths, tmp_path: Path) -> None:
    first = certificates.ensure(paths, "s", NAMES)

    again = certificates.ensure(paths, "s", (*NAMES, "10.0.0.9"))

    assert again.authority == first.authority
    assert handshake(again, "10.0.0.9", tmp_path) == ""


def test_one_that_ends_soon_is_renewed(paths: SwarmPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    first = certificates.ensure(paths, "s", NAMES)
    left = certificates.expires(first.server.certificate) - datetime.now(UTC)
    assert left > timedelta(days=300)

    monkeypatch.setattr(certificates, "RENEWED_DAYS", left.days + 1)
    again = certificates.ensure(paths, "s", NAMES)

    assert again.server.certificate != first.server.certificate
    assert again.authority == first.authority


def test_one_that_has_expired_is_renewed_by_the_same_authority(paths: SwarmPaths, tmp_path: Path) -> None:
    first = certificates.ensure(paths, "s", NAMES)
    (tmp_path / "ca.pem").write_text(first.authority)
    (tmp_path / "ca.key").write_text(paths.secret("ca.key").read_text())
    authority = Authority(tmp_path / "ca.pem", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    alternatives = ",".join(f"{'IP' if name[0].isdigit() else 'DNS'}:{name}" for name in NAMES)
    expired, key = authority.issue("old", alternatives, expired=True)
    paths.secret("server.crt").write_text(expired.read_text())
    paths.secret("server.key").write_text(key.read_text())
    assert "expired" in handshake(
        replace(first, server=Pair(expired.read_text(), key.read_text())), NAMES[0], tmp_path
    )

    again = certificates.ensure(paths, "s", NAMES)

    assert again.authority == first.authority
    assert handshake(again, NAMES[0], tmp_path) == ""


def test_keys_are_for_this_user_only(paths: SwarmPaths) -> None:
    certificates.ensure(paths, "s", NAMES)

    for file in paths.secrets.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_damaged_file_is_named(paths: SwarmPaths) -> None:
    certificates.ensure(paths, "s", NAMES)
    paths.secret("ca.crt").write_text("-----BEGIN CERTIFICATE-----\nnothing")

    with pytest.raises(ConfigError, match=r"secrets/ca\.crt"):
        certificates.ensure(paths, "s", NAMES)


def test_a_certificate_of_the_users_must_have_its_key(paths: SwarmPaths) -> None:
    certificates.ensure(paths, "s", NAMES)
    files = {name: str(paths.secret(name)) for name in ("server.crt", "server.key", "node.key")}

    assert certificates.given(files["server.crt"], files["server.key"], NAMES[0]).certificate
    with pytest.raises(ConfigError, match="is not the key of"):
        certificates.given(files["server.crt"], files["node.key"], NAMES[0])
    with pytest.raises(ConfigError, match="cannot read"):
        certificates.given("/nowhere", files["node.key"], NAMES[0])


@pytest.mark.parametrize(
    ("alternatives", "host", "good"),
    [
        ("DNS:m.example.org", "m.example.org", True),
        ("DNS:m.example.org", "M.example.org", True),
        ("DNS:*.example.org", "m.example.org", True),
        ("DNS:*.example.org", "a.m.example.org", False),
        ("DNS:*.example.org", "example.org", False),
        ("DNS:m.example.org", "10.0.0.1", False),
        ("DNS:m.example.org,IP:10.0.0.1", "10.0.0.1", True),
        ("IP:10.0.0.11", "10.0.0.1", False),
    ],
)
def test_a_certificate_of_the_users_must_be_for_the_gateways_name(
    tmp_path: Path, alternatives: str, host: str, good: bool
) -> None:
    files = map(str, Authority.make(tmp_path).issue("given", alternatives))
    refused = pytest.raises(ConfigError, match=f"clients reach this stack at {host}")

    with contextlib.nullcontext() if good else refused:
        certificates.given(*files, host)


def test_a_certificate_of_the_users_that_has_expired_is_refused(tmp_path: Path) -> None:
    files = map(str, Authority.make(tmp_path).issue("given", "DNS:m", expired=True))

    with pytest.raises(ConfigError, match=r"has expired \(2020-02-01\)"):
        certificates.given(*files, "m")
