"""The directory of a stack, and the copy of it that a dry run may change."""

from __future__ import annotations

import socket
from pathlib import Path

from cloudburst.stack.swarm.paths import SwarmPaths


def test_what_is_done_to_a_copy_leaves_the_directory_as_it_was(tmp_path: Path) -> None:
    paths = SwarmPaths(tmp_path / "s")
    paths.make()
    paths.secret("salt").write_text("salt")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.bind(str(paths.ssh / "0123abcd.1"))

        with paths.copied() as copy:
            copy.make()
            assert copy.secret("salt").read_text() == "salt"
            copy.secret("salt").write_text("other")
            copy.secret("more").write_text("more")

    assert [(path.name, path.read_text()) for path in paths.secrets.iterdir()] == [("salt", "salt")]
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_of_a_stack_that_is_not_there_nothing_is_left(tmp_path: Path) -> None:
    with SwarmPaths(tmp_path / "s").copied() as copy:
        copy.make()

    assert list(tmp_path.iterdir()) == []
