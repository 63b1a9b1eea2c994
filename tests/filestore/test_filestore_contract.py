"""What an existing client, written with requests or curl, can rely on."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest
import requests

from tests.filestore.conftest import TOKEN, FileStoreProcess


def unique(suffix: str = ".bin") -> str:
    return f"{uuid.uuid4().hex}{suffix}"


def test_an_old_client_uploads_and_downloads_with_the_token_in_the_url(
    filestore: FileStoreProcess, tmp_path: Path
) -> None:
    # given a file, as the oldest example client has it
    path = tmp_path / unique(".zip")
    path.write_bytes(b"PK\x03\x04 not really")
    # when it is uploaded and fetched
    with path.open("rb") as file:
        uploaded = requests.post(
            f"{filestore.url}/upload", params={"token": TOKEN}, files={"file": file}, timeout=30
        )
    fetched = requests.get(f"{filestore.url}/files/{path.name}", params={"token": TOKEN}, timeout=30)
    # then
    assert uploaded.status_code == 200
    assert uploaded.json()["ok"] is True
    assert uploaded.json()["path"] == f"/files/{path.name}"
    assert fetched.status_code == 200
    assert fetched.content == path.read_bytes()


def test_curl_uploads_a_form(filestore: FileStoreProcess, tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if not curl:
        pytest.skip("curl is not installed: the form that curl sends was not tried")
    path = tmp_path / unique()
    path.write_bytes(b"\r\n--".join([b"x" * 70_000] * 30))
    run = subprocess.run(
        [curl, "-sS", "-F", f"file=@{path}", f"{filestore.url}/upload?token={TOKEN}"],
        capture_output=True,
        check=True,
    )
    assert b'"ok":true' in run.stdout
    assert filestore.ask("GET", f"/files/{path.name}").content == path.read_bytes()


def test_a_put_stores_a_raw_body_and_a_form_alike(filestore: FileStoreProcess) -> None:
    raw, form = unique(), unique()
    first = filestore.ask("PUT", f"/files/{raw}", data=b"water")
    second = filestore.ask("PUT", f"/files/{form}", files={"file": ("ignored.txt", b"water")})
    assert first.json()["path"] == f"/files/{raw}"
    assert second.json()["path"] == f"/files/{form}"
    assert filestore.ask("GET", f"/files/{form}").content == b"water"


def test_names_may_have_folders_spaces_and_letters_of_any_language(filestore: FileStoreProcess) -> None:
    name = f"{unique('')}/Flüsse und Seen/水.csv"
    assert filestore.ask("PUT", f"/files/{requests.utils.quote(name)}", data=b"1").status_code == 200
    assert filestore.ask("POST", "/upload", files={"file": (name + "2", b"2")}).status_code == 200
    assert filestore.ask("GET", f"/files/{name}").content == b"1"
    assert filestore.ask("GET", f"/files/{name}2").content == b"2"


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
def test_head_tells_size_and_sha256(filestore: FileStoreProcess, size: int) -> None:
    contents, name = b"z" * size, unique()
    filestore.put(name, contents)
    head = filestore.ask("HEAD", f"/files/{name}")
    assert head.headers["Content-Length"] == str(size)
    assert head.headers["ETag"] == f'"{hashlib.sha256(contents).hexdigest()}"'
    assert head.content == b""
    assert filestore.ask("GET", f"/files/{name}").content == contents


def test_an_unchanged_file_is_not_sent_again(filestore: FileStoreProcess) -> None:
    name = unique()
    etag = filestore.put(name, b"one")
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = filestore.ask("GET", f"/files/{name}", headers={"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
    filestore.put(name, b"two")
    answer = filestore.ask("GET", f"/files/{name}", headers={"If-None-Match": etag})
    assert (answer.status_code, answer.content) == (200, b"two")


def test_a_second_upload_replaces_the_first(filestore: FileStoreProcess) -> None:
    name = unique()
    assert filestore.put(name, b"first, and longer") != filestore.put(name, b"second")
    assert filestore.ask("GET", f"/files/{name}").content == b"second"


def test_a_deleted_file_is_gone_and_its_name_free_for_a_folder(filestore: FileStoreProcess) -> None:
    name = unique("")
    filestore.put(name, b"x")
    assert filestore.ask("DELETE", f"/files/{name}").json() == {"ok": True}
    assert filestore.ask("GET", f"/files/{name}").status_code == 404
    assert filestore.ask("DELETE", f"/files/{name}").status_code == 404
    filestore.put(f"{name}/below", b"y")
    assert filestore.ask("DELETE", f"/files/{name}/below").status_code == 200
    assert not (filestore.files / name).exists(), "the empty folder should be removed"


def test_a_listing_has_names_and_sizes_and_nothing_hidden(filestore: FileStoreProcess) -> None:
    folder = unique("")
    for name, size in (("a/1", 10), ("a/2", 20), ("ab", 30)):
        filestore.put(f"{folder}/{name}", b"x" * size)
    listed = filestore.ask("GET", "/files/", params={"prefix": f"{folder}/a"}).json()
    assert listed["ok"] is True
    assert {entry["name"]: entry["size"] for entry in listed["files"]} == {
        f"{folder}/a/1": 10,
        f"{folder}/a/2": 20,
        f"{folder}/ab": 30,
    }
    everything = filestore.ask("GET", "/files").json()["files"]
    assert not [entry for entry in everything if entry["name"].startswith(".")]
    assert filestore.ask("GET", "/files/", params={"prefix": "no such"}).json()["files"] == []
    assert filestore.ask("GET", "/files/", params={"prefix": "../"}).status_code == 400


def test_health_needs_no_token(filestore: FileStoreProcess) -> None:
    assert requests.get(f"{filestore.url}/health", timeout=30).json() == {"ok": True}


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({}, ""),
        ({"Authorization": "Bearer wrong"}, ""),
        ({"Authorization": TOKEN}, ""),
        ({"Authorization": f"Basic {TOKEN}"}, ""),
        ({"Authorization": "Bearer "}, "?token="),
        ({}, "?token=wrong"),
        ({}, f"?tok%65n={TOKEN}x"),
        ({}, "?token=%FF%FE"),
        ({"Authorization": "Bearer \xff"}, ""),
    ],
)
@pytest.mark.parametrize("path", ["/files/x", "/upload", "/files/", "/uploads/x", "/no/such", "/files/../x"])
def test_without_the_right_token_nothing_is_told(
    filestore: FileStoreProcess, path: str, headers: dict[str, str], query: str
) -> None:
    answer = requests.get(filestore.url + path + query, headers=headers, timeout=30)
    assert answer.status_code == 401
    assert answer.json() == {"ok": False, "error": "authentication required"}


def test_the_right_token_counts_even_beside_another_authorization(filestore: FileStoreProcess) -> None:
    answer = requests.get(f"{filestore.url}/files/", params={"token": TOKEN}, auth=("netrc", "x"), timeout=30)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/files/no-such-file", 404),
        ("HEAD", "/files/no-such-file", 404),
        ("GET", "/no-such-address", 404),
        ("PATCH", "/files/x", 405),
        ("GET", "/upload", 405),
        ("PUT", "/files/", 400),
        ("PUT", "/files/.hidden", 400),
        ("POST", "/upload", 400),
    ],
)
def test_every_error_is_json(filestore: FileStoreProcess, method: str, path: str, status: int) -> None:
    answer = filestore.ask(method, path)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/json"
    if method != "HEAD":
        assert answer.json()["ok"] is False
        assert answer.json()["error"]


FORM_HEAD = b'--B\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/octet-stream", b"x"),
        ("multipart/form-data", FORM_HEAD + b"x\r\n--B--\r\n"),
        ("multipart/form-data; boundary=B", b""),
        ("multipart/form-data; boundary=B", b"no form at all"),
        ("multipart/form-data; boundary=B", FORM_HEAD + b"cut off"),
        ("multipart/form-data; boundary=B", FORM_HEAD + b"x\r\n--B"),
        ("multipart/form-data; boundary=B", FORM_HEAD.replace(b'"file"', b'"other"') + b"x\r\n--B--\r\n"),
        ("multipart/form-data; boundary=B", FORM_HEAD.replace(b'; filename="f"', b"") + b"x\r\n--B--\r\n"),
        ("multipart/form-data; boundary=B", FORM_HEAD + b"x\r\n" + FORM_HEAD + b"y\r\n--B--\r\n"),
        ("multipart/form-data; boundary=" + "B" * 300, FORM_HEAD + b"x\r\n--B--\r\n"),
        (
            "multipart/form-data; boundary=B",
            b"--B\r\n" + b"X-H: " + b"y" * 100_000 + b"\r\n\r\nx\r\n--B--\r\n",
        ),
    ],
)
def test_a_body_that_is_no_proper_form_is_refused_and_leaves_the_old_file(
    filestore: FileStoreProcess, content_type: str, body: bytes
) -> None:
    filestore.put("f", b"old")
    answer = filestore.ask("POST", "/upload", data=body, headers={"Content-Type": content_type})
    assert answer.status_code == 400
    assert answer.json()["ok"] is False
    assert filestore.ask("GET", "/files/f").content == b"old"
    assert filestore.arriving() == []


def test_other_fields_of_a_form_are_skipped(filestore: FileStoreProcess) -> None:
    name = unique()
    answer = filestore.ask(
        "POST", "/upload", data={"before": "x" * 200_000}, files={"file": (name, b"y"), "after": ("z", b"z")}
    )
    assert answer.json()["path"] == f"/files/{name}"
    assert filestore.ask("GET", f"/files/{name}").content == b"y"


def test_contents_that_differ_from_the_announced_sha256_are_refused(filestore: FileStoreProcess) -> None:
    name = unique()
    filestore.put(name, b"old")
    announced = hashlib.sha256(b"new").hexdigest()
    bad = filestore.ask("PUT", f"/files/{name}", data=b"nEw", headers={"X-Content-SHA256": announced})
    malformed = filestore.ask("PUT", f"/files/{name}", data=b"new", headers={"X-Content-SHA256": "12"})
    assert (bad.status_code, malformed.status_code) == (400, 400)
    assert filestore.ask("GET", f"/files/{name}").content == b"old"
    good = filestore.ask(
        "PUT", f"/files/{name}", data=b"new", headers={"X-Content-SHA256": announced.upper()}
    )
    assert good.status_code == 200


def test_a_file_is_no_folder_and_a_folder_no_file(filestore: FileStoreProcess) -> None:
    name = unique("")
    filestore.put(f"{name}/x", b"1")
    for taken in (name, f"{name}/x/y", f"{name}/x/y/z"):
        answer = filestore.ask("PUT", f"/files/{taken}", data=b"2")
        assert answer.status_code == 400, taken
        assert filestore.ask("GET", f"/files/{taken}").status_code == 404
    assert filestore.ask("GET", f"/files/{name}/x").content == b"1"


def test_what_is_larger_than_the_limit_is_refused_whether_announced_or_not(tmp_path: Path) -> None:
    # given a file store that takes at most 100,000 bytes
    server = FileStoreProcess(tmp_path / "small", CLOUDBURST_FILESTORE_LIMIT_BYTES="100000")
    server.start()
    try:
        server.put("f", b"x" * 100_000)
        # when more arrives: announced, without an announced length, in a form, in resumable parts
        announced = server.ask("PUT", "/files/f", data=b"y" * 400_000)
        streamed = server.ask("PUT", "/files/f", data=iter([b"y" * 60_000] * 3))
        barely = server.ask("PUT", "/files/f", data=b"y" * 100_001)
        form = server.ask("POST", "/upload", files={"file": ("f", io.BytesIO(b"y" * 100_001))})
        part = server.ask(
            "PUT",
            "/files/f",
            data=b"y",
            headers={"Content-Range": "bytes 0-0/100001", "X-Content-SHA256": "0" * 64},
        )
        # then all are refused, and the old file stays
        for answer in (announced, streamed, barely, form, part):
            assert answer.status_code == 413
            assert "CLOUDBURST_FILESTORE_LIMIT_BYTES" in answer.json()["error"]
        assert server.ask("GET", "/files/f").content == b"x" * 100_000
        assert server.arriving() == server.partials() == []
    finally:
        server.kill()


def test_a_failure_inside_is_json_too_and_its_traceback_is_logged(own_filestore: FileStoreProcess) -> None:
    # given a file store whose own folder was destroyed by hand
    incoming = own_filestore.files / ".store" / "incoming"
    incoming.rmdir()
    incoming.write_text("not a folder")
    # when
    answer = own_filestore.ask("PUT", "/files/x", data=b"x")
    # then
    assert answer.status_code == 500
    assert answer.json()["ok"] is False
    own_filestore.log_with("NotADirectoryError")
