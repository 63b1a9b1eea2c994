"""Two tokens: one for everything, one to read with."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from cloudburst.errors import FileStoreError
from cloudburst.filestore.client import FileStore
from tests.filestore.conftest import TOKEN, FileStoreProcess

READ_TOKEN = "only-looking-77"


@pytest.fixture(scope="module")
def filestore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileStoreProcess]:
    directory = tmp_path_factory.mktemp("filestore")
    (directory / "read-token").write_text(READ_TOKEN + "\n")
    server = FileStoreProcess(directory, CLOUDBURST_FILESTORE_READ_TOKEN_FILE=str(directory / "read-token"))
    server.start()
    FileStore(server.url, TOKEN).put("x", b"contents")
    yield server
    server.kill()


def test_a_reader_lists_and_fetches(filestore: FileStoreProcess, tmp_path: Path) -> None:
    reader = FileStore(filestore.url, READ_TOKEN)

    assert reader.read("x") == b"contents"
    assert reader.exists("x")
    assert [file.name for file in reader.list()] == ["x"]
    assert requests.get(f"{filestore.url}/files/x", params={"token": READ_TOKEN}, timeout=30).ok


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/files/x"),
        ("DELETE", "/files/x"),
        ("POST", "/upload"),
        ("PATCH", "/files/x"),
        ("POST", "/files/x"),
    ],
)
def test_a_reader_changes_nothing(filestore: FileStoreProcess, method: str, path: str) -> None:
    headers = {"Authorization": f"Bearer {READ_TOKEN}"}

    answer = requests.request(method, filestore.url + path, headers=headers, data=b"other", timeout=30)

    assert answer.status_code == 403
    assert answer.json() == {"ok": False, "error": "this token is for reading only"}
    assert FileStore(filestore.url, TOKEN).read("x") == b"contents"


def test_the_client_says_what_the_token_is_for(filestore: FileStoreProcess) -> None:
    with pytest.raises(
        FileStoreError, match=r"does not allow that with this token: .* reading only"
    ) as failure:
        FileStore(filestore.url, READ_TOKEN).put("x", b"other")
    assert failure.value.status == 403


def test_a_wrong_token_is_no_readers(filestore: FileStoreProcess) -> None:
    for token in ("", "wrong", READ_TOKEN + "x"):
        answer = requests.get(f"{filestore.url}/files/x", params={"token": token}, timeout=30)
        assert answer.status_code == 401


def test_without_a_token_for_readers_an_empty_one_lets_nobody_in(tmp_path: Path) -> None:
    server = FileStoreProcess(tmp_path / "filestore")
    server.start()
    answer = requests.get(f"{server.url}/files/", headers={"Authorization": "Bearer "}, timeout=30)
    server.kill()
    assert answer.status_code == 401


def test_the_readers_token_is_not_logged(filestore: FileStoreProcess) -> None:
    requests.get(f"{filestore.url}/files/{READ_TOKEN}?token={READ_TOKEN}", timeout=30)

    assert READ_TOKEN not in filestore.log_with("/files/***")


def test_readers_and_writers_have_different_tokens(tmp_path: Path) -> None:
    server = FileStoreProcess(tmp_path, CLOUDBURST_FILESTORE_READ_TOKEN=TOKEN)
    done = subprocess.run(
        [sys.executable, "-m", "cloudburst.filestore"],
        env=os.environ | server.environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "CLOUDBURST_FILESTORE_READ_TOKEN: should be another" in done.stderr
