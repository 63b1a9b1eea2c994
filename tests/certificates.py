"""Certificates of a test's own authority, made by the openssl command; and TLS in front of a service."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

_BOOKS = """
[ca]
default_ca = books
[books]
database = index
new_certs_dir = .
rand_serial = yes
certificate = ca.pem
private_key = ca.key
default_md = sha256
policy = any
[any]
commonName = supplied
"""
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Authority:
    """A certificate authority that nobody knows, and a server at 127.0.0.1 that it vouches for."""

    certificate: Path
    """PEM file for those who are to trust it."""
    server: ssl.SSLContext
    """For 127.0.0.1 and localhost."""

    @classmethod
    def make(cls, folder: Path) -> Authority:
        folder.mkdir(parents=True, exist_ok=True)
        _openssl(
            *(folder, "req", "-x509", *_KEY, "-keyout", "ca.key", "-out", "ca.pem"),
            *(
                "-subj",
                "/CN=Test authority",
                "-days",
                "2",
                "-addext",
                "keyUsage=critical,keyCertSign,cRLSign",
            ),
        )
        authority = cls(folder / "ca.pem", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        authority.server.load_cert_chain(*authority.issue("server"))
        return authority

    def issue(
        self, name: str, alternatives: str = "IP:127.0.0.1,DNS:localhost", *, expired: bool = False
    ) -> tuple[Path, Path]:
        """The files of a new certificate and its key."""
        folder = self.certificate.parent
        (folder / f"{name}.ext").write_text(f"subjectAltName={alternatives}\n")
        _openssl(
            *(folder, "req", *_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/CN=server"),
        )
        if expired:
            # Of the commands that sign, only `ca` can date back, and it wants to keep books.
            (folder / "ca.conf").write_text(_BOOKS)
            (folder / "index").touch()
            _openssl(
                *(folder, "ca", "-batch", "-config", "ca.conf", "-in", f"{name}.csr", "-out", f"{name}.pem"),
                *("-startdate", "20200101000000Z", "-enddate", "20200201000000Z", "-extfile", f"{name}.ext"),
            )
        else:
            _openssl(
                *(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key"),
                *("-CAcreateserial", "-out", f"{name}.pem", "-days", "2", "-extfile", f"{name}.ext"),
            )
        return folder / f"{name}.pem", folder / f"{name}.key"

    def context(self, name: str, alternatives: str, *, expired: bool = False) -> ssl.SSLContext:
        """For a server with a certificate of its own."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(name, alternatives, expired=expired))
        return context


class TlsFront:
    """Listens with TLS on a port of its own, and passes on what comes to ``port``."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._target = port
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                raw, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        try:
            ours = self._context.wrap_socket(raw, server_side=True)
        except OSError:
            raw.close()
            return
        theirs = socket.create_connection(("127.0.0.1", self._target))
        threading.Thread(target=_pump, args=(theirs, ours), daemon=True).start()
        _pump(ours, theirs)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
