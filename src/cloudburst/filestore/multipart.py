"""The field ``file`` of a multipart form, passed on while it arrives (RFC 7578)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, TypeAlias

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from cloudburst.errors import FileStoreError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FIELD = "file"

OVERHEAD_BYTES = 1024 * 1024
"""What a form may hold beside the file: boundaries, headers of its parts, other fields."""

HEADER_BYTES = 16 * 1024
"""Of one header of a part, name or value."""

Piece: TypeAlias = memoryview


class FilePart:
    """The contents of the form's one ``file`` field as an async iterator; other fields are skipped.

    ``await open()`` comes first and returns the part's file name. Both raise FileStoreError
    with status 400 when ``body`` is not such a form, or has too much in it that is not the file. Memory use
    does not depend on any size.
    """

    def __init__(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        self._body = body
        self._parser = _parser(content_type, self)
        self._pieces: list[Piece] = []
        self._disposition = b""
        self._header_name = b""
        self._in_file = False
        self._file_name: str | None = None
        self._complete = False
        self._other_bytes = 0
        """How much has arrived that is not the file."""

    async def open(self) -> str:
        """Read up to the start of the file's contents; return the file name, which may be unsafe."""
        while self._file_name is None and await self._feed():
            pass
        if self._file_name is None:
            raise _bad_form(f"it has no field {FIELD!r}")
        if not self._file_name:
            raise _bad_form(f"its field {FIELD!r} has no file name")
        return self._file_name

    async def __aiter__(self) -> AsyncIterator[Piece]:
        while True:
            pieces, self._pieces = self._pieces, []
            for piece in pieces:
                yield piece
            if not await self._feed():
                return

    async def _feed(self) -> bool:
        """Parse the next chunk of the body; False at its end."""
        chunk = await anext(self._body, None)
        if chunk is None:
            if not self._complete:
                raise _bad_form("it ends in the middle")
            return False
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _bad_form(str(error)) from error
        self._other_bytes += len(chunk)
        if self._other_bytes > OVERHEAD_BYTES:
            raise _bad_form(f"it holds more than {OVERHEAD_BYTES} bytes beside the file")
        return True

    # What the parser calls, as in its documentation.

    def on_part_begin(self) -> None:
        self._disposition = b""

    def on_header_begin(self) -> None:
        self._header_name = b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name = _longer(self._header_name, data[start:end])

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = _longer(self._disposition, data[start:end])

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._in_file = options.get(b"name") == FIELD.encode()
        if self._in_file:
            if self._file_name is not None:
                raise _bad_form(f"it has more than one field {FIELD!r}: send one file per request")
            self._file_name = options.get(b"filename", b"").decode(errors="replace")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._pieces.append(memoryview(data)[start:end])
            self._other_bytes -= end - start

    def on_end(self) -> None:
        self._complete = True


def is_form(content_type: str) -> bool:
    """Whether a body of that type is a multipart form."""
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


def _parser(content_type: str, part: FilePart) -> MultipartParser:
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not is_form(content_type) or not boundary:
        raise _bad_form(f"its Content-Type is {content_type!r}")
    callbacks: MultipartCallbacks = {
        "on_part_begin": part.on_part_begin,
        "on_header_begin": part.on_header_begin,
        "on_header_field": part.on_header_field,
        "on_header_value": part.on_header_value,
        "on_headers_finished": part.on_headers_finished,
        "on_part_data": part.on_part_data,
        "on_end": part.on_end,
    }
    try:
        return MultipartParser(boundary, callbacks)
    except FormParserError as error:
        raise _bad_form(str(error)) from error


def _longer(header: bytes, piece: bytes) -> bytes:
    if len(header) + len(piece) > HEADER_BYTES:
        raise _bad_form(f"a header of a part is longer than {HEADER_BYTES} bytes")
    return header + piece


def _bad_form(detail: str) -> FileStoreError:
    return FileStoreError(
        f"the body is not a multipart form with the file in its field {FIELD!r}: {detail}", status=400
    )
