"""Parts of files: what the headers mean, and what a real server answers."""

from __future__ import annotations

import pytest

from cloudburst.errors import FileStoreError
from cloudburst.filestore import headers
from cloudburst.filestore.headers import Part
from tests.filestore.conftest import FileStoreProcess

CONTENTS = bytes(range(256)) * 10_000


@pytest.fixture(scope="module")
def name(filestore: FileStoreProcess) -> str:
    filestore.put("ranges.bin", CONTENTS)
    return "/files/ranges.bin"


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=2559990-", 2_559_990, 2_560_000),
        ("bytes=1000000-9999999", 1_000_000, 2_560_000),
        ("bytes=-5", 2_559_995, 2_560_000),
        ("bytes=-9999999", 0, 2_560_000),
        ("BYTES=1-2", 1, 3),
    ],
)
def test_one_range_is_sent_as_206(
    filestore: FileStoreProcess, name: str, header: str, start: int, stop: int
) -> None:
    answer = filestore.ask("GET", name, headers={"Range": header})
    assert answer.status_code == 206
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(CONTENTS)}"
    assert answer.content == CONTENTS[start:stop]


@pytest.mark.parametrize("header", ["bytes=2560000-", "bytes=9999999-10000000", "bytes=-0"])
def test_a_range_beyond_the_end_is_416_and_tells_the_size(
    filestore: FileStoreProcess, name: str, header: str
) -> None:
    answer = filestore.ask("GET", name, headers={"Range": header})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(CONTENTS)}"
    assert answer.json()["ok"] is False


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-3",
        "bytes=0-1,5-6",
        "lines=0-1",
        "bytes=" + "9" * 99,
    ],
)
def test_other_ranges_get_the_whole_file(filestore: FileStoreProcess, name: str, header: str) -> None:
    answer = filestore.ask("GET", name, headers={"Range": header})
    assert (answer.status_code, len(answer.content)) == (200, len(CONTENTS))


def test_if_range_sends_the_rest_only_of_the_same_version(filestore: FileStoreProcess, name: str) -> None:
    etag = filestore.ask("HEAD", name).headers["ETag"]
    for version, status in ((etag, 206), ('"other"', 200), (f"W/{etag}", 200), ("Sat, 01 Jan 2000", 200)):
        answer = filestore.ask("GET", name, headers={"Range": "bytes=5-", "If-Range": version})
        assert answer.status_code == status, version


def test_a_head_ignores_ranges(filestore: FileStoreProcess, name: str) -> None:
    answer = filestore.ask("HEAD", name, headers={"Range": "bytes=5-6"})
    assert (answer.status_code, answer.headers["Content-Length"]) == (200, str(len(CONTENTS)))


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes 0-9/10", Part(0, 10, 10)),
        ("bytes 5-5/10", Part(5, 6, 10)),
        ("bytes */10", Part(10, 10, 10)),
    ],
)
def test_a_content_range_announces_a_part(header: str, part: Part) -> None:
    assert headers.arriving_part(header) == part


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes 0-9",
        "bytes 0-9/*",
        "bytes 5-4/10",
        "bytes 0-10/10",
        "bytes=0-9/10",
        "bytes */*",
        "b -1-2/3",
    ],
)
def test_a_malformed_content_range_is_refused(header: str) -> None:
    with pytest.raises(FileStoreError, match="Content-Range: should be") as caught:
        headers.arriving_part(header)
    assert caught.value.status == 400
