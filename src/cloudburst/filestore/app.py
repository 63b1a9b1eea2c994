"""The file store as an ASGI application. The interface is described in ``cloudburst.filestore``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cloudburst.errors import FileStoreError
from cloudburst.filestore import body, filenames, headers, refusals
from cloudburst.filestore.access import AccessLog, Authentication
from cloudburst.filestore.blocks import in_thread
from cloudburst.filestore.download import Download, answer_with
from cloudburst.filestore.incoming import Bytes, check_contents, too_large
from cloudburst.filestore.multipart import FilePart, is_form
from cloudburst.filestore.partials import Partials
from cloudburst.filestore.storage import Storage
from cloudburst.filestore.tokens import Tokens


class _FileName(Convertor[str]):
    """Any text, also one with line breaks: what is no name is refused as such, not as an unknown address."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("file", _FileName())


def create_app(root: Path, tokens: Tokens, *, limit_bytes: int) -> Starlette:
    """A file store on the directory ``root`` for everybody who has one of the ``tokens``.

    ``limit_bytes`` is the size of the largest file. Raises StackError when ``root`` is in use.
    """
    answers = Answers(Storage(root, limit_bytes))
    app = Starlette(
        lifespan=_with_threads,
        routes=[
            Route("/upload", answers.post, methods=["POST"]),
            Route("/files", answers.listing, methods=["GET"]),
            Route("/files/", answers.listing, methods=["GET"]),
            Route("/files/{name:file}", answers.get, methods=["GET"]),
            Route("/files/{name:file}", answers.put, methods=["PUT"]),
            Route("/files/{name:file}", answers.delete, methods=["DELETE"]),
            Route("/uploads/{name:file}", answers.upload_offset, methods=["GET"]),
            Route("/health", answers.health, methods=["GET"]),
        ],
        middleware=[Middleware(AccessLog, tokens=tokens), Middleware(Authentication, tokens=tokens)],
        exception_handlers=refusals.BY_ERROR,
    )
    # A redirect would repeat the URL, with the token of old clients in it.
    app.router.redirect_slashes = False
    return app


@asynccontextmanager
async def _with_threads(app: Starlette) -> AsyncIterator[None]:
    # Python's own number, cores + 4, is for computing. These wait for the disk, and while a few
    # flush large files to it, others still have to be read.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(32, "disk"))
    yield


class Answers:
    """One method for each kind of request."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._partials = Partials(storage)

    async def post(self, request: Request) -> Response:
        body.check_announced(request, self._storage)
        part = FilePart(request.headers.get("content-type", ""), body.chunks(request))
        name = filenames.checked(await part.open())
        self._storage.check_target(name)
        return await self._store(request, name, aiter(part))

    async def put(self, request: Request) -> Response:
        name = request.path_params["name"]
        self._storage.check_target(name)
        body.check_announced(request, self._storage)
        if "content-range" in request.headers:
            return await self._put_part(request, name)
        content_type = request.headers.get("content-type", "")
        if not is_form(content_type):
            return await self._store(request, name, body.chunks(request))
        form = FilePart(content_type, body.chunks(request))
        await form.open()
        return await self._store(request, name, aiter(form))

    async def _store(self, request: Request, name: str, pieces: AsyncIterator[Bytes]) -> Response:
        announced = request.headers.get("x-content-sha256")
        expected = headers.announced_digest(announced) if announced else ""
        async with self._storage.incoming() as incoming:
            async for piece in pieces:
                await incoming.write(piece)
            sha256 = await incoming.finish()
            if expected:
                check_contents(name, sha256, expected)
            await in_thread(self._storage.store, incoming, name, sha256)
        return _stored(name, sha256)

    async def _put_part(self, request: Request, name: str) -> Response:
        part = headers.arriving_part(request.headers["content-range"])
        sha256 = headers.announced_digest(request.headers.get("x-content-sha256", ""))
        if part.total > self._storage.limit_bytes:
            raise too_large(self._storage.limit_bytes)
        announced = body.announced_bytes(request)
        if announced is not None and announced != part.size:
            raise FileStoreError(f"the body has {announced} bytes, Content-Range says {part}", status=400)
        size = await self._partials.receive(name, sha256, part, body.chunks(request))
        if size == part.total:
            return _stored(name, sha256)
        return JSONResponse({"ok": True, "offset": size}, 202, {"Upload-Offset": str(size)})

    async def upload_offset(self, request: Request) -> Response:
        name = filenames.checked(request.path_params["name"])
        sha256 = headers.announced_digest(request.headers.get("x-content-sha256", ""))
        offset = self._partials.offset(name, sha256)
        return JSONResponse({"ok": True, "offset": offset}, 200, {"Upload-Offset": str(offset)})

    async def get(self, request: Request) -> Response:
        name = request.path_params["name"]
        file = self._storage.open(name)
        try:
            sha256 = await self._storage.digests.of(name, file)
            answer = answer_with(file, sha256, request)
        except BaseException:
            file.close()
            raise
        if not isinstance(answer, Download):
            file.close()
        return answer

    async def delete(self, request: Request) -> Response:
        await in_thread(self._storage.delete, request.path_params["name"])
        return JSONResponse({"ok": True})

    async def listing(self, request: Request) -> Response:
        prefix = request.query_params.get("prefix", "")
        files = await in_thread(lambda: [asdict(file) for file in self._storage.list(prefix)])
        return JSONResponse({"ok": True, "files": files})

    async def health(self, request: Request) -> Response:
        return JSONResponse({"ok": True})


def _stored(name: str, sha256: str) -> Response:
    return JSONResponse(
        {"ok": True, "path": f"/files/{name}", "sha256": sha256}, headers={"ETag": f'"{sha256}"'}
    )
