"""Certificates of a test's own authority, made by the openssl command."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Authority:
    """A certificate authority that nobody knows, and a server at 127.0.0.1 that it vouches for."""

    certificate: Path
    """PEM file for those who are to trust it."""
    server: ssl.SSLContext

    @classmethod
    def make(cls, folder: Path) -> Authority:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "server.ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        _openssl(
            *(folder, "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem"),
            *(
                "-subj",
                "/CN=Test authority",
                "-days",
                "2",
                "-addext",
                "keyUsage=critical,keyCertSign,cRLSign",
            ),
        )
        _openssl(folder, "req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1")
        _openssl(
            *(folder, "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-out", "server.pem", "-days", "2", "-extfile", "server.ext"),
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        return cls(folder / "ca.pem", context)


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
