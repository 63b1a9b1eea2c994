"""The server as a process: how it starts, stops, refuses and logs."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from cloudburst.errors import ConfigError
from cloudburst.filestore.__main__ import Settings
from cloudburst.filestore.tokens import Tokens
from tests.conftest import free_port
from tests.filestore.conftest import TOKEN, FileStoreProcess


def run_until_it_gives_up(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cloudburst.filestore"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def settings(tmp_path: Path, **changes: str) -> dict[str, str]:
    return FileStoreProcess(tmp_path, **changes).environment()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"CLOUDBURST_FILESTORE_TOKEN": ""}, "CLOUDBURST_FILESTORE_TOKEN: the file store does not start"),
        (
            {"CLOUDBURST_FILESTORE_TOKEN": "two words"},
            "CLOUDBURST_FILESTORE_TOKEN: should be printable ASCII",
        ),
        ({"CLOUDBURST_FILESTORE_TOKEN_FILE": "/no/such/file"}, "cannot read /no/such/file"),
        ({"CLOUDBURST_FILES_DIR": ""}, "CLOUDBURST_FILES_DIR: should name the directory"),
        ({"CLOUDBURST_FILESTORE_PORT": "http"}, "CLOUDBURST_FILESTORE_PORT: should be a whole number"),
        ({"CLOUDBURST_FILESTORE_PORT": "70000"}, "CLOUDBURST_FILESTORE_PORT: should be at most 65535"),
        ({"CLOUDBURST_FILESTORE_LIMIT_BYTES": "0"}, "CLOUDBURST_FILESTORE_LIMIT_BYTES: should be at least 1"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, changes: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Settings.from_environ(settings(tmp_path, **changes))


def test_defaults_hold_where_the_environment_is_silent(tmp_path: Path) -> None:
    least = {"CLOUDBURST_FILES_DIR": str(tmp_path), "CLOUDBURST_FILESTORE_TOKEN": "t"}
    assert Settings.from_environ(least) == Settings(tmp_path, "127.0.0.1", 25478, Tokens("t"), 20 * 1024**3)


@pytest.mark.parametrize(
    ("changes", "complaint", "exit_code"),
    [
        ({"CLOUDBURST_FILESTORE_TOKEN": ""}, "the file store does not start without a token", 2),
        ({"CLOUDBURST_FILESTORE_HOST": "192.0.2.1"}, "cannot listen on 192.0.2.1", 9),
        ({"CLOUDBURST_FILES_DIR": "/dev/null/files"}, "cannot use /dev/null/files", 9),
    ],
)
def test_what_cannot_start_is_one_line_and_an_exit_code(
    tmp_path: Path, changes: dict[str, str], complaint: str, exit_code: int
) -> None:
    run = run_until_it_gives_up(settings(tmp_path, **changes))
    assert complaint in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert run.returncode == exit_code


def test_a_port_in_use_is_one_line_and_an_exit_code(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        run = run_until_it_gives_up(settings(tmp_path, CLOUDBURST_FILESTORE_PORT=port))
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use)" in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert run.returncode == 9


def test_a_directory_belongs_to_one_file_store(own_filestore: FileStoreProcess) -> None:
    own_filestore.put("f", b"x")
    environment = own_filestore.environment() | {"CLOUDBURST_FILESTORE_PORT": str(free_port())}
    run = run_until_it_gives_up(environment)
    assert "another file store is already running" in run.stderr
    assert run.returncode == 9
    assert own_filestore.ask("GET", "/files/f").content == b"x"


def test_the_token_can_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-a-file\n")
    server = FileStoreProcess(
        tmp_path / "filestore",
        CLOUDBURST_FILESTORE_TOKEN="",
        CLOUDBURST_FILESTORE_TOKEN_FILE=str(tmp_path / "token"),
    )
    server.start()
    try:
        url = f"{server.url}/files/"
        assert requests.get(url, headers={"Authorization": "Bearer from-a-file"}, timeout=30).ok
        assert requests.get(url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30).status_code == 401
    finally:
        server.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_soon_with_code_0_even_while_clients_are_connected(
    own_filestore: FileStoreProcess, number: signal.Signals
) -> None:
    # given an idle connection, an upload that hangs, and a download that nobody reads on
    with (own_filestore.files / "large").open("wb") as file:
        file.truncate(30 * 1024 * 1024)
    with requests.Session() as idle, own_filestore.begin_put("/files/f", 1000) as upload:
        idle.get(f"{own_filestore.url}/health", timeout=30)
        upload.sendall(b"x")
        with requests.get(f"{own_filestore.url}/files/large?token={TOKEN}", stream=True, timeout=30):
            # when
            began = time.monotonic()
            assert own_filestore.process is not None
            own_filestore.process.send_signal(number)
            code = own_filestore.process.wait(10)
    # then
    assert code == 0
    assert time.monotonic() - began < 4
    assert "Traceback" not in own_filestore.log.read_text()
    own_filestore.start()
    assert own_filestore.arriving() == []


def test_the_token_is_in_no_log_whatever_is_asked(own_filestore: FileStoreProcess) -> None:
    # given requests that bring it in every way, right and wrong, and some that fail
    url = own_filestore.url
    for query in (f"?token={TOKEN}", f"?token=x{TOKEN}", f"?a=b&token={TOKEN}&c", f"?token={TOKEN}&token=2"):
        for path in (
            "/files/none",
            "/files/",
            "/upload",
            "/no/such",
            "/files/..%2fx",
            f"/files/x%3Ftoken={TOKEN}",
        ):
            requests.get(url + path + query, timeout=30)
            requests.post(url + path + query, files={"file": ("x", b"y")}, timeout=30)
    requests.put(f"{url}/files/x%0a{TOKEN}?token={TOKEN}", data=b"x", timeout=30)
    with own_filestore.connect() as connection:
        connection.sendall(f"GET /files/x?token={TOKEN} HTTP/9.9\r\nnonsense\r\n\r\n".encode())
        connection.recv(1000)
    (own_filestore.files / ".store" / "incoming").rmdir()
    assert requests.put(f"{url}/files/x?token={TOKEN}", data=b"x", timeout=30).status_code == 500
    # when
    own_filestore.stop()
    # then
    log = own_filestore.log.read_text()
    assert "GET /files/none 404" in log
    assert "Traceback" in log
    assert TOKEN not in log


def test_a_log_line_cannot_be_forged(own_filestore: FileStoreProcess) -> None:
    requests.get(
        f"{own_filestore.url}/files/x%0a2026-01-01T00:00:00Z%20INFO%20forged?token={TOKEN}", timeout=30
    )
    own_filestore.stop()
    assert not [line for line in own_filestore.log.read_text().splitlines() if "INFO forged" in line]
    assert "GET /files/x%0A2026" in own_filestore.log.read_text()


def test_the_repr_of_the_settings_hides_the_token(tmp_path: Path) -> None:
    assert TOKEN not in repr(Settings.from_environ(settings(tmp_path)))
