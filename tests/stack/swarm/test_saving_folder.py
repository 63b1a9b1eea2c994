"""The folder of a back-up."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from cloudburst.errors import StackError
from cloudburst.stack.swarm.saving.folder import Folder
from cloudburst.stack.swarm.saving.manifest import Manifest, Saved, SavedFile


def manifest(queue: Saved, **files: Saved) -> Manifest:
    return Manifest(
        stack="s",
        began_at=1.5,
        cloudburst="0.1.0",
        redis="7.0.15",
        queue=queue,
        files={name: SavedFile(saved.sha256, saved.size, 123456789) for name, saved in files.items()},
        volumes={},
        images={},
    )


def store(folder: Folder, contents: bytes) -> Saved:
    return folder.store(io.BytesIO(contents))


def complete(root: Path, contents: bytes) -> tuple[Folder, Manifest]:
    folder = Folder(root)
    with folder.held():
        made = manifest(store(folder, contents), a=store(folder, b"file"))
        folder.finish(made)
    return folder, made


def test_what_was_saved_is_there_and_for_its_owner_only(tmp_path: Path):
    folder, made = complete(tmp_path / "new" / "folder", b"rdb")

    assert folder.complete() == made
    folder.verify(made)
    assert folder.path(made.queue).read_bytes() == b"rdb"
    assert folder.root.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in (folder.root / "objects").iterdir())


def test_only_the_bytes_that_count_are_kept(tmp_path: Path):
    folder = Folder(tmp_path)
    with folder.held():
        cut = folder.store(io.BytesIO(b"rdb and a mark"), size=lambda: 3)

        assert cut == store(folder, b"rdb")


def test_a_backup_that_never_ended_is_recognised(tmp_path: Path):
    folder = Folder(tmp_path / "b")
    with folder.held():
        store(folder, b"rdb")

    with pytest.raises(StackError, match="never completed"):
        folder.complete()


def test_a_folder_without_a_backup_is_recognised(tmp_path: Path):
    with pytest.raises(StackError, match="is no back-up"):
        Folder(tmp_path / "nothing").complete()


def test_a_second_backup_that_breaks_off_leaves_the_first(tmp_path: Path):
    folder, made = complete(tmp_path / "b", b"first")

    with folder.held():
        store(folder, b"second")

    assert folder.complete() == made
    folder.verify(made)


def test_a_second_backup_removes_what_only_the_first_had(tmp_path: Path):
    folder, first = complete(tmp_path / "b", b"first")
    _, second = complete(tmp_path / "b", b"second")

    assert not folder.has(first.queue)
    assert folder.has(second.queue)
    assert folder.has(second.files["a"])


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_damage_is_found_and_named(tmp_path: Path, damage: str):
    folder, made = complete(tmp_path / "b", b"rdb")
    path = folder.path(made.files["a"])
    path.unlink()
    if damage == "changed":
        path.write_bytes(b"File")

    with pytest.raises(StackError, match=f"file a .*{damage}"):
        folder.verify(made)


def test_a_folder_of_something_else_is_not_written_to(tmp_path: Path):
    (tmp_path / "photo").touch()

    with pytest.raises(StackError, match="something else"), Folder(tmp_path).held():
        pass


def test_two_backups_at_once_into_one_folder_are_refused(tmp_path: Path):
    folder = Folder(tmp_path / "b")

    with folder.held(), pytest.raises(StackError, match="under way"), Folder(tmp_path / "b").held():
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 2}', '{"format": 1, "queue": 3}'])
def test_what_is_no_manifest_is_refused(text: str):
    with pytest.raises(StackError, match="swarm/manifest"):
        Manifest.from_json(text, "swarm/manifest")
