"""The provider whose one node is this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudburst.errors import StackError
from cloudburst.providers.local import LocalProvider


def test_a_node_is_a_private_directory_until_it_is_removed(tmp_path: Path) -> None:
    provider = LocalProvider(tmp_path / "home")
    assert provider.nodes("floods") == []

    node = provider.create("floods")

    assert provider.create("floods") == node
    assert provider.nodes("floods") == [node]
    assert provider.nodes("droughts") == []
    assert (tmp_path / "home/floods").stat().st_mode & 0o777 == 0o700

    provider.remove(node)
    provider.remove(node)

    assert provider.nodes("floods") == []


def test_a_place_that_cannot_be_written_to_says_how_to_choose_another(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("in the way")

    with pytest.raises(StackError, match="CLOUDBURST_HOME chooses another place"):
        LocalProvider(tmp_path / "home").create("floods")
