"""Payloads on their way into a real file store."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cloudburst import Stack, archive
from cloudburst.errors import ConfigError, FileStoreError, PayloadError
from cloudburst.filestore.client import FileStore
from tests.ensemble.parts import TOKEN


@pytest.fixture
def store(filestore_url: str) -> FileStore:
    return FileStore(filestore_url, TOKEN)


def submit(stack: Stack, payload: str | Path | None, function: str = "worker.work") -> str:
    """Submit one job; returns the digest of its payload."""
    return stack.submit("one", payload=payload, function=function, jobs=[{}]).status().payload


def zip_of(directory: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w") as file:
        for path in directory.rglob("*"):
            file.write(path, path.relative_to(directory))
    return target


def stored_at(store: FileStore, digest: str) -> float | str:
    (found,) = store.list(f"payloads/{digest}.zip")
    return found.modified_at


def test_a_directory_is_zipped_and_stored_under_its_digest(stack, model, store, tmp_path):
    digest = submit(stack, model)

    assert store.get(f"payloads/{digest}.zip", tmp_path / "got.zip") == digest
    with zipfile.ZipFile(tmp_path / "got.zip") as file:
        assert sorted(file.namelist()) == ["Pipfile", "worker.py"]


def test_a_payload_that_is_there_is_not_sent_again(stack, model, store):
    digest = submit(stack, model)
    before = stored_at(store, digest)

    assert submit(stack, str(model)) == digest
    assert submit(stack, digest) == digest
    assert stored_at(store, digest) == before


def test_a_zip_file_is_stored_as_it_is(stack, model, store, tmp_path):
    zipped = zip_of(model, tmp_path / "mine.zip")

    digest = submit(stack, zipped)

    assert digest == archive.digest(zipped)
    assert store.exists(f"payloads/{digest}.zip")


def test_without_a_payload_jobs_run_on_whatever_was_posted(stack, model, store):
    assert submit(stack, None) == ""

    digest = stack.post(model)
    assert store.etag("worker.zip") == digest
    assert stack.post(model, as_name="en_worker.zip") == digest
    assert store.etag("en_worker.zip") == digest


def test_what_would_not_run_is_refused_before_any_job_is_accepted(stack, model, tmp_path):
    with pytest.raises(PayloadError, match="neither a directory nor a zip file"):
        submit(stack, tmp_path / "nowhere")
    with pytest.raises(PayloadError, match=r"worker\.py does not define play \(it defines work\)"):
        submit(stack, model, function="worker.play")
    with pytest.raises(PayloadError, match=r"0123.*: not in the file store"):
        submit(stack, "0123456789abcdef" * 4)
    (model / "cloudburst.toml").write_text('isolation = "thread"\n')
    with pytest.raises(ConfigError, match='isolation: should be "reuse" or "fork"'):
        submit(stack, model)
    with pytest.raises(ConfigError, match="isolation"):
        submit(stack, zip_of(model, tmp_path / "mine.zip"))
    assert stack.ensembles() == []


def test_a_zip_file_is_refused_under_its_own_name(stack, model, tmp_path):
    (model / "worker.py").write_text("def work(params:\n")
    broken = zip_of(model, tmp_path / "broken.zip")
    shutil.rmtree(model)
    model.mkdir()
    (model / "worker.py").write_text("")
    lacking = zip_of(model, tmp_path / "lacking.zip")
    nothing = tmp_path / "nothing.zip"
    nothing.write_bytes(b"not a zip file at all")

    with pytest.raises(PayloadError, match=r"syntax errors in the payload:\nworker.py:1: "):
        submit(stack, broken)
    with pytest.raises(PayloadError, match=f"{lacking}: holds no Pipfile"):
        submit(stack, lacking)
    with pytest.raises(PayloadError, match=f"{nothing}: damaged, or not a zip file"):
        stack.post(nothing)


def test_a_wrong_token_and_a_file_store_that_is_away_are_told_apart(stack, model):
    endpoints = stack.endpoints
    wrong = Stack(type(endpoints)(**{**vars(endpoints), "filestore_token": "wrong"}))
    away = Stack(type(endpoints)(**{**vars(endpoints), "filestore_url": "http://127.0.0.1:1"}))

    with pytest.raises(FileStoreError, match=r"authentication required|token"):
        submit(wrong, model)
    with pytest.raises(FileStoreError, match=r"127\.0\.0\.1:1"):
        submit(away, model)
    assert stack.ensembles() == []


def test_nothing_of_the_payload_is_left_in_the_temporary_directory(stack, model, tmp_path):
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    script = (
        "import sys; from cloudburst import Stack; from cloudburst.model import Endpoints\n"
        "stack = Stack(Endpoints.from_json(sys.stdin.read(), 'stdin'))\n"
        "stack.submit('one', payload=sys.argv[1], function='worker.work', jobs=[{}])\n"
    )

    subprocess.run(
        [sys.executable, "-c", script, str(zip_of(model, tmp_path / "mine.zip"))],
        input=stack.endpoints.to_json(),
        text=True,
        env={"TMPDIR": str(scratch), "PATH": "/usr/bin:/bin"},
        check=True,
    )

    assert list(scratch.iterdir()) == []
