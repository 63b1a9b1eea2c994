"""Images for the machines' engines without a network: what stands for Docker's public registry here.

An image is a folder in the cache: ``manifest`` (Docker's schema 2) and its blobs, named by digest.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

from tests.swarm import cache
from tests.swarm.process import run

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Registry:
    """Read-only, plain HTTP: engines use it as a mirror (``registry-mirrors``)."""

    def __init__(self, address: str, port: int) -> None:
        self._server = _Server((address, port))
        self.url = f"http://{address}:{port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def add(self, name: str, image: Path) -> None:
        """Serve this folder as ``debian:bookworm-slim`` or the like."""
        repository, _, tag = name.partition(":")
        if "/" not in repository:
            repository = f"library/{repository}"  # as engines ask for Docker's own images
        manifest = (image / "manifest").read_bytes()
        digest = _digest(manifest)
        self._server.manifests |= {(repository, tag): manifest, (repository, digest): manifest}
        self._server.blobs |= {path.name: path for path in image.iterdir()}

    def __enter__(self) -> Registry:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def from_tree(tree: Path, image: Path) -> None:
    """An image of one layer from a root file system."""
    image.mkdir()
    layer = image / "layer"
    run(["tar", "--sort=name", "--numeric-owner", "-C", str(tree), "-cf", str(layer), "."])
    config = {
        "architecture": run(["dpkg", "--print-architecture"]).stdout.strip(),
        "os": "linux",
        "config": {"Cmd": ["bash"], "Env": [f"PATH={PATH}"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    _finish(image, json.dumps(config).encode(), [layer])


def from_archive(archive: Path, image: Path) -> None:
    """An image from what `docker save` wrote."""
    image.mkdir()
    with tarfile.open(archive) as saved:
        saved.extractall(image / "saved", filter="data")
    (entry,) = json.loads((image / "saved/manifest.json").read_text())
    config = (image / "saved" / entry["Config"]).read_bytes()
    _finish(image, config, [image / "saved" / layer for layer in entry["Layers"]])
    cache.remove(image / "saved")


def _finish(image: Path, config: bytes, layers: list[Path]) -> None:
    """Name the blobs by their digests and write the manifest that lists them."""
    parts = [{"mediaType": LAYER, "size": layer.stat().st_size, "digest": _digest(layer)} for layer in layers]
    for layer, part in zip(layers, parts, strict=True):
        layer.rename(image / str(part["digest"]))
    of_config = {"mediaType": CONFIG, "size": len(config), "digest": _digest(config)}
    (image / str(of_config["digest"])).write_bytes(config)
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": of_config, "layers": parts}
    (image / "manifest").write_text(json.dumps(manifest))


def _digest(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return f"sha256:{hashlib.sha256(content).hexdigest()}"
    with content.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # engines keep connections open

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, _Request)
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.blobs: dict[str, Path] = {}


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        asked = re.fullmatch(r"/v2/(.+)/(manifests|blobs)/([^/]+)", path)
        if path == "/v2/":
            return self._send(200, "application/json", b"{}")
        if asked and asked[2] == "manifests" and (asked[1], asked[3]) in self.server.manifests:
            return self._send(200, MANIFEST, self.server.manifests[asked[1], asked[3]])
        if asked and asked[2] == "blobs" and asked[3] in self.server.blobs:
            return self._send_file(self.server.blobs[asked[3]])
        return self._send(404, "application/json", b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')

    do_HEAD = do_GET

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self._head(status, kind, len(body), _digest(body))
        if self.command == "GET":
            self.wfile.write(body)

    def _send_file(self, path: Path) -> None:
        self._head(200, "application/octet-stream", path.stat().st_size, path.name)
        if self.command == "GET":
            with path.open("rb") as content:
                shutil.copyfileobj(content, self.wfile)

    def _head(self, status: int, kind: str, size: int, digest: str) -> None:
        self.send_response(status)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Docker-Content-Digest", digest)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""
