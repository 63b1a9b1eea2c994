"""In what an environment here differs from the one that a job ran in."""

from __future__ import annotations

import pytest

from cloudburst.model import Provenance
from cloudburst.worker.reproduction import differences

pytestmark = pytest.mark.slow

HERE = Provenance("p", "here", "3.11.7", "linux-x86_64", "0.1.0")


def ran(environment="there", python="3.11.7", platform="linux-x86_64", cloudburst="0.1.0") -> Provenance:
    return Provenance("p", environment, python, platform, cloudburst)


@pytest.mark.parametrize(
    ("ran_on", "told"),
    [
        ([], ()),
        ([ran("here")], ()),
        ([ran("here", cloudburst="0.0.9")], ()),  # another worker, the same environment
        ([ran(python="3.12.1"), ran("here")], ()),
        ([ran(python="3.12.1")], ("Python 3.11.7 instead of 3.12.1",)),
        (
            [ran(python="3.12.1", platform="linux-aarch64")],
            ("Python 3.11.7 instead of 3.12.1", "platform linux-x86_64 instead of linux-aarch64"),
        ),
        # of two, the nearer one is told
        ([ran(platform="linux-aarch64"), ran(python="3.12.1")], ("Python 3.11.7 instead of 3.12.1",)),
        ([ran()], ("another lock, or other options of the build such as CFLAGS",)),
    ],
)
def test_the_differences_to_the_nearest_environment_are_told(ran_on, told):
    assert differences(HERE, ran_on) == told
