"""A package index on this machine, so that environments are installed for real and without a network."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import ssl
import tarfile
import threading
import zipfile
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def make_wheel(
    folder: Path, name: str, version: str, requires: tuple[str, ...] = (), code: str = "", build: str = ""
) -> Path:
    """A wheel with one module of that name, and a test file that is not worth compiling.

    ``code`` is added to the module; ``build`` makes it another file of the same version.
    """
    info = f"{name}-{version}.dist-info"
    wants = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    files = {
        f"{name}/__init__.py": f"VERSION = {version!r}\n{code}",
        f"{name}/tests/test_it.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{wants}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{name}-{version}{build and f'-{build}'}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        for path, text in files.items():
            file.writestr(zipfile.ZipInfo(path), text)
    return wheel


def make_sdist(folder: Path, name: str, version: str, files: Mapping[str, str]) -> Path:
    """A source archive of those files."""
    root = f"{name}-{version}"
    folder.mkdir(parents=True, exist_ok=True)
    sdist = folder / f"{root}.tar.gz"
    metadata = {"PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"}
    with tarfile.open(sdist, "w:gz") as archive:
        for path, text in {**metadata, **files}.items():
            member = tarfile.TarInfo(f"{root}/{path}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return sdist


class PackageIndex:
    """Serves ``rainfall`` 1.0 and 1.1, and ``tide`` 2.0 which needs the latter; or what it is given.

    ``login`` is the only user and password that it answers to; with ``tls`` it speaks HTTPS.
    """

    def __init__(
        self,
        folder: Path,
        wheels: list[Path] | None = None,
        *,
        login: tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.wheels = wheels or [
            make_wheel(folder, "rainfall", "1.0"),
            make_wheel(folder, "rainfall", "1.1"),
            make_wheel(folder, "tide", "2.0", ("rainfall>=1.1",)),
        ]
        self.login = login
        self._scheme = "https" if tls else "http"
        self.requests: list[str] = []
        self.answering = threading.Event()
        """While this is cleared, requests hang."""
        self.answering.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._requests_to(self))
        self._server.daemon_threads = True
        if tls:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self.address}/simple"

    def hash_of(self, name: str) -> str:
        """SHA-256 of the newest wheel of that package."""
        return _sha256(self._wheels_of(name)[-1])

    def wheel_hash(self, name: str, version: str) -> str:
        """SHA-256 of the wheel of that version."""
        return next(_sha256(w) for w in self.wheels if w.name.startswith(f"{name}-{version}-"))

    def close(self) -> None:
        self.answering.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str) -> bytes | None:
        """Body for ``/simple/<name>/`` or ``/simple/<name>/<wheel>``; None for what there is not."""
        self.requests.append(path)
        self.answering.wait()
        _, _, rest = path.partition("/simple/")
        name, _, file = rest.partition("/")
        wheels = self._wheels_of(name)
        if file:
            return next((wheel.read_bytes() for wheel in wheels if wheel.name == file), None)
        links = "".join(
            f'<a href="{wheel.name}#sha256={_sha256(wheel)}">{wheel.name}</a>' for wheel in wheels
        )
        return links.encode() or None

    def admits(self, authorization: str) -> bool:
        """Whether that header of a request holds the login."""
        if self.login is None:
            return True
        return authorization == "Basic " + base64.b64encode(":".join(self.login).encode()).decode()

    def _wheels_of(self, name: str) -> list[Path]:
        return [wheel for wheel in self.wheels if wheel.name.startswith(f"{name}-")]

    @staticmethod
    def _requests_to(index: PackageIndex) -> type[BaseHTTPRequestHandler]:
        class Request(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if not index.admits(self.headers.get("Authorization", "")):
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="packages"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                body = index.answer(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                with contextlib.suppress(ConnectionError):  # who asked has been told to end
                    self.wfile.write(body or b"")

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Request


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
