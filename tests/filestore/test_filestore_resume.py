"""Resumable uploads, spoken by hand: any client can do this."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable

import pytest
import requests

from tests.filestore.conftest import FileStoreProcess
from tests.wait import wait_until

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
CONTENTS = os.urandom(10 * MIB)
SHA256 = hashlib.sha256(CONTENTS).hexdigest()


def offset(server: FileStoreProcess, name: str, sha256: str = SHA256) -> int:
    answer = server.ask("HEAD", f"/uploads/{name}", headers={"X-Content-SHA256": sha256})
    assert answer.status_code == 200
    return int(answer.headers["Upload-Offset"])


def send(
    server: FileStoreProcess,
    name: str,
    start: int,
    stop: int,
    *,
    sha256: str = SHA256,
    contents: bytes = CONTENTS,
) -> requests.Response:
    headers = {"X-Content-SHA256": sha256, "Content-Range": f"bytes {start}-{stop - 1}/{len(contents)}"}
    return server.ask("PUT", f"/files/{name}", data=contents[start:stop], headers=headers)


def break_off(server: FileStoreProcess, name: str, start: int, stop: int) -> None:
    """Announce everything from ``start``, send as far as ``stop``, and cut the connection."""
    connection = server.begin_put(
        f"/files/{name}",
        len(CONTENTS) - start,
        f"X-Content-SHA256: {SHA256}",
        f"Content-Range: bytes {start}-{len(CONTENTS) - 1}/{len(CONTENTS)}",
    )
    connection.sendall(CONTENTS[start:stop])
    wait_until(lambda: offset(server, name) > start, 10, "bytes to arrive")
    connection.close()


def settled(read: Callable[[], int]) -> int:
    """The value of ``read`` once it no longer changes."""
    last = [-1]

    def unchanged() -> bool:
        time.sleep(0.1)
        before, last[0] = last[0], read()
        return before == last[0]

    wait_until(unchanged, 10, "the upload to settle")
    return last[0]


def test_an_upload_in_parts_is_stored_with_its_last_part(filestore: FileStoreProcess) -> None:
    filestore.put("parts", b"old")
    assert offset(filestore, "parts") == 0
    for start, stop in ((0, 1), (1, 3 * MIB), (3 * MIB, 9 * MIB)):
        answer = send(filestore, "parts", start, stop)
        assert (answer.status_code, answer.headers["Upload-Offset"]) == (202, str(stop))
        assert offset(filestore, "parts") == stop
        assert filestore.ask("GET", "/files/parts").content == b"old"
    answer = send(filestore, "parts", 9 * MIB, 10 * MIB)
    assert answer.status_code == 200
    assert answer.json() == {"ok": True, "path": "/files/parts", "sha256": SHA256}
    assert filestore.ask("GET", "/files/parts").content == CONTENTS
    assert filestore.partials() == []


def test_a_broken_upload_goes_on_where_it_stood_even_after_the_server_was_killed(
    own_filestore: FileStoreProcess,
) -> None:
    # given an upload that broke, then one whose server was stopped, then one whose server was killed
    break_off(own_filestore, "f", 0, 3 * MIB)
    first = settled(lambda: offset(own_filestore, "f"))
    assert 0 < first <= 3 * MIB
    own_filestore.stop()
    own_filestore.start()
    assert offset(own_filestore, "f") == first
    break_off(own_filestore, "f", first, first + 3 * MIB)
    second = settled(lambda: offset(own_filestore, "f"))
    assert first < second <= first + 3 * MIB
    own_filestore.kill()
    own_filestore.start()
    assert offset(own_filestore, "f") == second
    # when the rest is sent
    answer = send(own_filestore, "f", second, len(CONTENTS))
    # then
    assert answer.status_code == 200
    assert own_filestore.ask("GET", "/files/f").content == CONTENTS


def test_a_stop_in_the_middle_of_a_part_keeps_what_arrived(own_filestore: FileStoreProcess) -> None:
    # given a part that is on its way
    connection = own_filestore.begin_put(
        "/files/f",
        len(CONTENTS),
        f"X-Content-SHA256: {SHA256}",
        f"Content-Range: bytes 0-{len(CONTENTS) - 1}/{len(CONTENTS)}",
    )
    connection.sendall(CONTENTS[: 2 * MIB + 1000])
    wait_until(lambda: offset(own_filestore, "f") == 2 * MIB + 1000, 10, "bytes to arrive")
    # when the server is asked to stop
    assert own_filestore.stop() == 0
    own_filestore.start()
    # then every byte is still there
    assert offset(own_filestore, "f") == 2 * MIB + 1000
    connection.close()


def test_a_part_at_the_wrong_place_is_409_and_told_the_right_one(filestore: FileStoreProcess) -> None:
    send(filestore, "wrong-place", 0, MIB)
    for start in (0, MIB - 1, MIB + 1):
        answer = send(filestore, "wrong-place", start, 2 * MIB)
        assert (answer.status_code, answer.headers["Upload-Offset"]) == (409, str(MIB))
        assert answer.json()["ok"] is False
    assert send(filestore, "wrong-place", MIB, len(CONTENTS)).status_code == 200


def test_contents_that_do_not_match_are_thrown_away(filestore: FileStoreProcess) -> None:
    # given an upload under a SHA-256 that is not that of its contents
    filestore.put("mismatch", b"old")
    wrong = "ab" * 32
    send(filestore, "mismatch", 0, MIB, sha256=wrong)
    # when it is complete
    answer = send(filestore, "mismatch", MIB, len(CONTENTS), sha256=wrong)
    # then
    assert answer.status_code == 400
    assert SHA256 in answer.json()["error"]
    assert filestore.ask("GET", "/files/mismatch").content == b"old"
    assert offset(filestore, "mismatch", wrong) == 0


def test_uploads_of_different_contents_under_one_name_do_not_mix(filestore: FileStoreProcess) -> None:
    other = CONTENTS[::-1]
    other_sha256 = hashlib.sha256(other).hexdigest()
    send(filestore, "mixed", 0, MIB)
    send(filestore, "mixed", 0, 2 * MIB, sha256=other_sha256, contents=other)
    assert (offset(filestore, "mixed"), offset(filestore, "mixed", other_sha256)) == (MIB, 2 * MIB)
    assert send(filestore, "mixed", MIB, len(CONTENTS)).status_code == 200
    assert (
        send(filestore, "mixed", 2 * MIB, len(other), sha256=other_sha256, contents=other).status_code == 200
    )
    assert filestore.ask("GET", "/files/mixed").content == other


def test_a_later_request_takes_over_from_one_that_hangs(filestore: FileStoreProcess) -> None:
    # given a connection that has sent a part of what it announced, and then nothing
    hanging = filestore.begin_put(
        "/files/taken-over",
        len(CONTENTS),
        f"X-Content-SHA256: {SHA256}",
        f"Content-Range: bytes 0-{len(CONTENTS) - 1}/{len(CONTENTS)}",
    )
    hanging.sendall(CONTENTS[: 1000 * 1000])
    wait_until(lambda: offset(filestore, "taken-over") == 1000 * 1000, 10, "bytes to arrive")
    # when another goes on
    assert send(filestore, "taken-over", 1000 * 1000, 5 * MIB).status_code == 202
    # and the first wakes up
    hanging.sendall(b"junk")
    # then it is refused, and what it sent is not added
    assert hanging.makefile("rb").readline().startswith(b"HTTP/1.1 409 ")
    hanging.close()
    assert send(filestore, "taken-over", 5 * MIB, len(CONTENTS)).status_code == 200
    assert filestore.ask("GET", "/files/taken-over").content == CONTENTS


def test_an_upload_whose_last_answer_was_lost_is_completed_without_sending_more(
    own_filestore: FileStoreProcess,
) -> None:
    # given all bytes, as a server leaves them that was killed just before it stored the file
    send(own_filestore, "f", 0, len(CONTENTS) - 1)
    own_filestore.kill()
    [partial] = own_filestore.partials()
    with partial.open("ab") as file:
        file.write(CONTENTS[-1:])
    own_filestore.start()
    assert offset(own_filestore, "f") == len(CONTENTS)
    # when
    headers = {"X-Content-SHA256": SHA256, "Content-Range": f"bytes */{len(CONTENTS)}"}
    answer = own_filestore.ask("PUT", "/files/f", headers=headers)
    # then
    assert answer.status_code == 200
    assert own_filestore.ask("GET", "/files/f").content == CONTENTS
    assert own_filestore.partials() == []


def test_malformed_parts_are_refused(filestore: FileStoreProcess) -> None:
    cases: list[tuple[dict[str, str], bytes]] = [
        ({"Content-Range": "bytes 0-9/10"}, b"x" * 10),
        ({"Content-Range": "bytes 0-9/10", "X-Content-SHA256": "short"}, b"x" * 10),
        ({"Content-Range": "bytes 0-9/10", "X-Content-SHA256": SHA256}, b"x" * 9),
        ({"Content-Range": "bytes 0-9/10", "X-Content-SHA256": SHA256}, b"x" * 11),
        ({"Content-Range": "bytes 9-0/10", "X-Content-SHA256": SHA256}, b"x" * 10),
        ({"Content-Range": "nonsense", "X-Content-SHA256": SHA256}, b"x" * 10),
    ]
    for headers, body in cases:
        answer = filestore.ask("PUT", "/files/malformed", data=body, headers=headers)
        assert answer.status_code == 400, headers
        assert answer.json()["ok"] is False
    assert filestore.ask("HEAD", "/uploads/malformed").status_code == 400
    longer = filestore.ask(
        "PUT",
        "/files/malformed",
        data=iter([b"x" * 6] * 3),
        headers={"Content-Range": "bytes 0-9/10", "X-Content-SHA256": SHA256},
    )
    assert longer.status_code == 400


def test_an_upload_to_which_nothing_was_added_for_a_day_is_given_up(own_filestore: FileStoreProcess) -> None:
    # given two uploads, one of them old
    send(own_filestore, "old", 0, MIB)
    [old] = own_filestore.partials()
    send(own_filestore, "young", 0, MIB)
    yesterday = time.time() - 25 * 3600
    os.utime(old, (yesterday, yesterday))
    # when a third begins, or the server starts again
    send(own_filestore, "third", 0, MIB)
    # then
    assert offset(own_filestore, "old") == 0
    assert offset(own_filestore, "young") == MIB
    assert len(own_filestore.partials()) == 2
