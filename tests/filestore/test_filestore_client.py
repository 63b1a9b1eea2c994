"""The file store's client, over connections that hold and connections that break."""

from __future__ import annotations

import hashlib
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cloudburst.errors import FileStoreError
from cloudburst.filestore.client import RESUMABLE_BYTES, FileStore
from tests.conftest import free_port
from tests.filestore.conftest import TOKEN, BreakingLink, FileStoreProcess
from tests.wait import wait_until

MIB = 1024 * 1024


@pytest.fixture
def client(filestore: FileStoreProcess) -> FileStore:
    return FileStore(filestore.url, TOKEN)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is uploaded resumably."""
    path = tmp_path_factory.mktemp("large") / "large"
    path.write_bytes(os.urandom(40 * MIB))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_makes_the_round_trip(client: FileStore, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "new" / "out"
    source.write_bytes(b"water")
    digest = client.put("client/a b/ü.bin", source)
    assert digest == sha256(source) == client.etag("client/a b/ü.bin")
    assert client.get("client/a b/ü.bin", target, expect_sha256=digest) == digest
    assert target.read_bytes() == b"water"
    assert list(target.parent.iterdir()) == [target]


def test_bytes_and_nothing_at_all_can_be_stored(client: FileStore, tmp_path: Path) -> None:
    for contents in (b"", b"water"):
        digest = client.put("client/bytes", contents)
        assert digest == hashlib.sha256(contents).hexdigest()
        client.get("client/bytes", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == contents


def test_files_are_listed_found_and_removed(client: FileStore) -> None:
    client.put("client-list/a", b"1")
    client.put("client-list/b", b"22")
    assert [(file.name, file.size) for file in client.list("client-list/")] == [
        ("client-list/a", 1),
        ("client-list/b", 2),
    ]
    assert client.exists("client-list/a")
    client.delete("client-list/a")
    client.delete("client-list/a")
    assert not client.exists("client-list/a")
    assert client.etag("client-list/a") is None


def test_a_large_file_is_uploaded_once(client: FileStore, large: Path, filestore: FileStoreProcess) -> None:
    digest = client.put("client/large", large)
    assert client.put("client/large", large) == digest == client.etag("client/large")
    client.delete("client/large")
    log = filestore.log_with("DELETE /files/client/large ")
    assert log.count("PUT /files/client/large ") == 1


def test_a_broken_upload_goes_on_where_it_stood(filestore: FileStoreProcess, large: Path) -> None:
    # given a link whose first two connections break, the second after 10 more MiB
    link = BreakingLink(filestore.port, cut_after=[25 * MIB, 10 * MIB])
    # when
    digest = FileStore(link.url, TOKEN).put("client/broken-upload", large)
    link.close()
    # then the file is right, and was not sent again from the start
    assert digest == sha256(large)
    assert filestore.ask("HEAD", "/files/client/broken-upload").headers["ETag"] == f'"{digest}"'
    assert link.made >= 3
    assert filestore.partials() == []


def test_a_broken_download_goes_on_where_it_stood(
    filestore: FileStoreProcess, client: FileStore, large: Path, tmp_path: Path
) -> None:
    # given
    digest = client.put("client/broken-download", large)
    link = BreakingLink(filestore.port, cut_after=[15 * MIB, 10 * MIB])
    # when
    FileStore(link.url, TOKEN).get("client/broken-download", tmp_path / "out", expect_sha256=digest)
    link.close()
    # then
    assert sha256(tmp_path / "out") == digest
    log = filestore.log_with("GET /files/client/broken-download 206", times=2)
    assert log.count("GET /files/client/broken-download 200") == 1
    assert log.count("GET /files/client/broken-download 206") == 2


def test_a_download_of_a_file_that_is_replaced_after_the_break_starts_anew(
    filestore: FileStoreProcess, client: FileStore, large: Path, tmp_path: Path
) -> None:
    # given a download that will break in the middle
    client.put("client/replaced", large)
    link = BreakingLink(filestore.port, cut_after=[15 * MIB])
    # when the file is replaced as soon as its first bytes are here
    replaced = threading.Event()

    def replace() -> None:
        wait_until(lambda: list(tmp_path.glob(".*.part")), 10, "the download to begin")
        client.put("client/replaced", b"new" * MIB)
        replaced.set()

    thread = threading.Thread(target=replace)
    thread.start()
    digest = FileStore(link.url, TOKEN).get("client/replaced", tmp_path / "out")
    thread.join()
    link.close()
    # then one of both versions arrived, whole
    assert sha256(tmp_path / "out") == digest
    assert digest in {sha256(large), hashlib.sha256(b"new" * MIB).hexdigest()}


def test_an_upload_survives_a_restart_of_the_server(own_filestore: FileStoreProcess, large: Path) -> None:
    # given an upload that breaks in the middle, and a server that is killed at that moment
    link = BreakingLink(own_filestore.port, cut_after=[20 * MIB])
    digests: list[str] = []
    upload = threading.Thread(target=lambda: digests.append(FileStore(link.url, TOKEN).put("f", large)))
    upload.start()
    wait_until(
        lambda: any(path.stat().st_size > 10 * MIB for path in own_filestore.partials()),
        20,
        "bytes to arrive",
    )
    own_filestore.kill()
    # when it is back
    own_filestore.start()
    upload.join(60)
    link.close()
    # then the upload ends by itself, with what it kept
    assert digests == [sha256(large)]
    own_filestore.log_with("going on with an upload from before a restart")
    assert own_filestore.ask("HEAD", "/files/f").headers["ETag"] == f'"{digests[0]}"'


def test_two_clients_that_upload_the_same_contents_both_succeed(
    filestore: FileStoreProcess, large: Path
) -> None:
    digests: list[str] = []

    def upload() -> None:
        digests.append(FileStore(filestore.url, TOKEN).put("client/both", large))

    threads = [threading.Thread(target=upload) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digests == [sha256(large)] * 3
    assert filestore.ask("HEAD", "/files/client/both").headers["ETag"] == f'"{digests[0]}"'
    assert filestore.partials() == []


def test_remains_that_were_damaged_are_thrown_away_and_sent_again(
    own_filestore: FileStoreProcess, large: Path
) -> None:
    # given an upload that broke, and of which a power failure has damaged what was there
    size, digest = large.stat().st_size, sha256(large)
    with own_filestore.begin_put(
        "/files/f", size, f"X-Content-SHA256: {digest}", f"Content-Range: bytes 0-{size - 1}/{size}"
    ) as connection:
        connection.sendall(large.read_bytes()[: 20 * MIB])
    own_filestore.log_with("PUT /files/f ")
    own_filestore.kill()
    [partial] = own_filestore.partials()
    with partial.open("r+b") as file:
        file.write(b"\0" * 4096)
    own_filestore.start()
    # when the upload is tried again
    assert FileStore(own_filestore.url, TOKEN).put("f", large) == digest
    # then
    own_filestore.log_with("PUT /files/f 400")
    assert own_filestore.ask("HEAD", "/files/f").headers["ETag"] == f'"{digest}"'


def test_other_contents_than_expected_are_not_fetched(client: FileStore, tmp_path: Path) -> None:
    client.put("client/unexpected", b"other")
    (tmp_path / "out").write_bytes(b"old")
    with pytest.raises(FileStoreError, match="other contents in the file store than expected"):
        client.get("client/unexpected", tmp_path / "out", expect_sha256="0" * 64)
    assert (tmp_path / "out").read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_a_missing_file_is_an_error_with_status_404(client: FileStore, tmp_path: Path) -> None:
    with pytest.raises(FileStoreError, match="there is no file 'client/missing'") as caught:
        client.get("client/missing", tmp_path / "out")
    assert caught.value.status == 404
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_token_names_the_settings_and_not_the_token(
    filestore: FileStoreProcess, large: Path, tmp_path: Path
) -> None:
    stranger = FileStore(filestore.url, "wrong-token-4711")
    for attempt in (
        lambda: stranger.put("f", b"x"),
        lambda: stranger.put("f", large),
        lambda: stranger.get("f", tmp_path / "f"),
        lambda: stranger.etag("f"),
        stranger.list,
    ):
        with pytest.raises(FileStoreError, match="FILE_HOST_TOKEN") as caught:
            attempt()
        assert caught.value.status == 401
        assert "4711" not in str(caught.value)


@pytest.mark.parametrize("token", ["4711\n", "47 11", "4711–", "4711\0"])
def test_a_token_that_cannot_be_sent_is_refused_and_not_shown(
    filestore: FileStoreProcess, token: str
) -> None:
    with pytest.raises(FileStoreError, match="FILE_HOST_TOKEN") as caught:
        FileStore(filestore.url, token)
    assert "11" not in str(caught.value)


def test_a_file_store_that_does_not_run_is_reported_soon_with_host_port_and_advice(tmp_path: Path) -> None:
    port = free_port()
    nobody = FileStore(f"http://127.0.0.1:{port}", TOKEN)
    for attempt in (
        lambda: nobody.put("f", b"x"),
        lambda: nobody.get("f", tmp_path / "f"),
        lambda: nobody.exists("f"),
    ):
        with pytest.raises(
            FileStoreError, match=f"127.0.0.1:{port} .*Connection refused.*is the stack running"
        ) as caught:
            attempt()
        assert caught.value.status == 0


def test_what_is_no_file_store_is_told_apart(tmp_path: Path) -> None:
    # given a web server that is something else
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "f").write_bytes(b"x")
    stranger = FileStore(f"http://127.0.0.1:{port}", TOKEN)
    try:
        wait_until(lambda: answers(stranger), 20, "the web server to answer")
        # then each request says so
        for attempt in (
            lambda: stranger.etag("f"),
            lambda: stranger.get("f", tmp_path / "g"),
            stranger.list,
        ):
            with pytest.raises(FileStoreError, match="not a file store"):
                attempt()
    finally:
        server.kill()
        server.wait()


def answers(client: FileStore) -> bool:
    try:
        client.exists("f")
    except FileStoreError as error:
        return "does not answer" not in str(error)
    return True


@pytest.mark.parametrize("url", ["", "127.0.0.1:25478", "http://", "http://[::1"])
def test_an_address_that_is_none_is_an_error_too(url: str) -> None:
    with pytest.raises(FileStoreError, match="not the address of a file store"):
        FileStore(url, TOKEN).exists("f")


def test_unsafe_names_and_unreadable_sources_are_refused_before_anything_is_sent(
    client: FileStore, tmp_path: Path
) -> None:
    with pytest.raises(FileStoreError, match="cannot be the name"):
        client.put("../x", b"x")
    with pytest.raises(FileStoreError, match=r"cannot read .*missing"):
        client.put("x", tmp_path / "missing")
    with pytest.raises(FileStoreError, match="cannot read"):
        client.put("x", tmp_path)


def test_proxies_and_netrc_of_the_machine_do_not_come_between(
    filestore: FileStoreProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a proxy for the Internet, and a ~/.netrc that knows another password for this host
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ada password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    # then the file store is reached all the same
    assert FileStore(filestore.url, TOKEN).etag("client/none") is None


def test_importing_the_client_does_not_import_the_server() -> None:
    code = "import sys, cloudburst.filestore.client; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"starlette", "uvicorn", "python_multipart", "anyio", "pandas"} & set(modules)


@pytest.mark.parametrize("offset", ["", "many", "-1", "1_0", "9" * 30, "٣"])
def test_a_number_that_is_none_is_not_believed(offset: str) -> None:
    class Stranger(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(404 if self.path.startswith("/files") else 200)
            self.send_header("Upload-Offset", offset.encode().decode("latin-1"))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = FileStore(f"http://127.0.0.1:{server.server_port}", TOKEN)
        with pytest.raises(FileStoreError, match="not a file store"):
            store.put("f", b"x" * RESUMABLE_BYTES)
        server.shutdown()
