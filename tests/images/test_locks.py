"""The locks of images, without any Docker."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
LOCKED = re.compile(r"^([a-z0-9.-]+)(?:\[[a-z,]+\])?==(\S+)", re.MULTILINE)


@pytest.mark.parametrize("name", ["worker", "filestore", "queue-dash"])
def test_an_image_has_the_versions_that_everything_is_tested_with(name: str) -> None:
    of_all = dict(LOCKED.findall((REPOSITORY / "requirements.lock").read_text()))
    folder = REPOSITORY / "images" / name
    of_image = dict(LOCKED.findall((folder / "requirements.lock").read_text()))
    wanted = re.findall(r"^([a-z0-9.-]+)", (folder / "requirements.in").read_text(), re.MULTILINE)

    assert set(wanted) <= set(of_image), "run `make lock`"
    assert of_image.items() <= of_all.items(), "run `make lock`"
    assert not {"pandas", "pyarrow", "matplotlib", "numpy"} & set(of_image), "these are for clients"
