"""What was posted as worker.zip stays there by its digest when another takes its place."""

from __future__ import annotations

import hashlib

from tests.filestore.conftest import FileStoreProcess


def post(filestore: FileStoreProcess, contents: bytes) -> str:
    assert filestore.ask("POST", "/upload", files={"file": ("worker.zip", contents)}).status_code == 200
    return hashlib.sha256(contents).hexdigest()


def test_each_posted_worker_zip_can_still_be_fetched_by_its_digest(own_filestore: FileStoreProcess) -> None:
    contents = [b"one" * 1000, b"two" * 1000, b"one" * 1000]

    digests = [post(own_filestore, content) for content in contents]

    assert own_filestore.ask("GET", "/files/worker.zip").content == contents[2]
    for digest, content in zip(digests, contents, strict=True):
        answer = own_filestore.ask("GET", f"/files/payloads/{digest}.zip")
        assert (answer.content, answer.headers["ETag"]) == (content, f'"{digest}"')


def test_a_version_that_was_stored_before_it_was_posted_stays_as_it_is(
    own_filestore: FileStoreProcess,
) -> None:
    digest = hashlib.sha256(b"three").hexdigest()
    own_filestore.put(f"payloads/{digest}.zip", b"three")

    assert post(own_filestore, b"three") == digest

    assert own_filestore.ask("GET", f"/files/payloads/{digest}.zip").content == b"three"
    assert own_filestore.ask("DELETE", f"/files/payloads/{digest}.zip").ok
    assert own_filestore.ask("GET", "/files/worker.zip").content == b"three"
