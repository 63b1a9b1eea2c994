"""Which names are safe, and that no name reaches a file outside the file store."""

from __future__ import annotations

import posixpath
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudburst.errors import FileStoreError
from cloudburst.filestore import filenames
from tests.filestore.conftest import TOKEN, FileStoreProcess

UNSAFE = [
    "",
    ".",
    "..",
    "../x",
    "a/../b",
    "a/..",
    "/etc/passwd",
    "//etc/passwd",
    "a//b",
    "a/",
    ".hidden",
    "a/.hidden/b",
    ".store/lock",
    "...",
    "a\\..\\b",
    "C:\\windows",
    "a\x00b",
    "a\nb",
    "a\n",
    "a\x7f",
    "a\x85b",
    "a\u202eb",
    "a\u2028b",
    "a\ufffdb",
    "a\ud800b",
    " a",
    "a ",
    "a/ b",
    "x" * 256,
    "ä" * 128,
    "/".join(["x" * 200] * 6),
]
SAFE = [
    "a",
    "a/b/c",
    "worker.zip",
    "a b",
    "a..b",
    "-x",
    "~",
    "Fluß/水.csv",
    "x" * 255,
    "%2e%2e",
    "a;b|c$d'e\"f",
]

# As sent on the wire; none may ever answer with the contents of another file, or store one elsewhere.
TRAVERSAL = [
    "../secret",
    "../../../../etc/passwd",
    "%2e%2e/secret",
    "%2e%2e%2fsecret",
    "..%2fsecret",
    "..%5csecret",
    "a/..%2f..%2fsecret",
    "a/%2e%2e/%2e%2e/secret",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "//etc/passwd",
    "./secret",
    ".store/lock",
    "%2estore/lock",
    "a%00/../secret",
    "secret%00.txt",
    "%c0%ae%c0%ae/secret",
    "%ff",
    "a%0a",
    "a%0d%0aX-Injected:%20yes",
    "..;/secret",
]


@pytest.mark.parametrize("name", UNSAFE)
def test_an_unsafe_name_is_refused_with_a_reason(name: str) -> None:
    with pytest.raises(FileStoreError, match=r"cannot be the name of a file: .{5}") as caught:
        filenames.checked(name)
    assert caught.value.status == 400


@pytest.mark.parametrize("name", SAFE)
def test_a_safe_name_passes_unchanged(name: str) -> None:
    assert filenames.checked(name) == name


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("./\\ \x00\n~a")), max_size=40))
def test_whatever_passes_stays_below_the_root(name: str) -> None:
    if not filenames.is_safe(name):
        with pytest.raises(FileStoreError):
            filenames.checked(name)
        return
    assert posixpath.normpath(posixpath.join("/root", name)) == f"/root/{name}"
    assert not any(segment.startswith(".") for segment in name.split("/"))
    assert name.isprintable()
    assert name.encode().decode() == name


@given(
    st.lists(
        st.text(st.characters(categories=["L", "N"], include_characters="-_+=,@"), min_size=1, max_size=60),
        min_size=1,
        max_size=4,
    )
)
def test_letters_digits_and_dashes_always_pass(segments: list[str]) -> None:
    assert filenames.checked("/".join(segments))


@pytest.mark.parametrize("path", TRAVERSAL)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_no_path_leads_out_of_the_file_store(filestore: FileStoreProcess, method: str, path: str) -> None:
    # given a file beside the root, which nobody may read, replace or remove
    secret = filestore.directory / "secret"
    secret.write_text("beside the root")
    outside = sorted(filestore.directory.iterdir())
    # when the path is sent as it is, for requests would tidy it up
    answer = raw_request(filestore, method, f"/files/{path}", b"planted")
    # then
    status = int(answer.split()[1])
    assert status in ({400, 404} if method != "PUT" else {400}), answer
    assert b"beside the root" not in answer
    assert b"X-Injected" not in answer.partition(b"\r\n\r\n")[0]
    assert secret.read_text() == "beside the root"
    assert sorted(filestore.directory.iterdir()) == outside


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", ".store/lock", "a/../../b", "..\\x", "C:\\a\\..", "..", "\\\\h\\.x"]
)
def test_no_file_name_in_a_form_leads_out_of_the_file_store(filestore: FileStoreProcess, name: str) -> None:
    outside = sorted(filestore.directory.iterdir())
    answer = filestore.ask("POST", "/upload", files={"file": (name, b"planted")})
    assert answer.status_code == 400
    assert sorted(filestore.directory.iterdir()) == outside


def test_links_that_somebody_put_there_are_not_followed(filestore: FileStoreProcess, tmp_path: Path) -> None:
    # given links to a file and to a folder outside
    (tmp_path / "secret").write_text("outside")
    (filestore.files / "link").symlink_to(tmp_path / "secret")
    (filestore.files / "folder-link").symlink_to(tmp_path)
    # then they can be neither read nor written through, nor listed
    for name in ("link", "folder-link/secret"):
        assert filestore.ask("GET", f"/files/{name}").status_code == 400
        assert filestore.ask("PUT", f"/files/{name}", data=b"x").status_code == 400
    listed = {entry["name"] for entry in filestore.ask("GET", "/files/").json()["files"]}
    assert not listed & {"link", "folder-link/secret"}
    assert (tmp_path / "secret").read_text() == "outside"


def raw_request(filestore: FileStoreProcess, method: str, path: str, body: bytes) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n"
    with filestore.connect() as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = b""
        while data := _received(connection):
            answer += data
    return answer


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""
