"""HTTP to one file store, in which every failure is a FileStoreError that says what to do."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import quote, urlsplit

import requests
from requests.auth import AuthBase

from cloudburst import trust
from cloudburst.errors import FileStoreError
from cloudburst.filestore import filenames, tokens
from cloudburst.filestore.patience import Patience, Unreachable

CONNECT_TIMEOUT_S = 10.0


class Connection:
    """Requests to the file store at ``url`` with ``token``; ``timeout_s`` is the longest silence."""

    def __init__(self, url: str, token: str, timeout_s: float, ca_file: str = "") -> None:
        if not tokens.can_be_sent(token):
            raise FileStoreError(
                "the token of the file store has characters that cannot be sent: look for line breaks, "
                "spaces and typographic characters in FILE_HOST_TOKEN or the file of FILE_HOST_TOKEN_FILE"
            )
        self._url = url.rstrip("/")
        self._ca_file = trust.checked(ca_file)
        self._timeout_s = (min(CONNECT_TIMEOUT_S, timeout_s), timeout_s)
        self._session = requests.Session()
        self._session.auth = _Bearer(token)
        # Compressed on the way, sizes and ranges would be those of something else.
        self._session.headers["Accept-Encoding"] = "identity"
        try:
            parts = urlsplit(self._url)
        except ValueError as error:
            raise FileStoreError(f"{url!r}: not the address of a file store ({error})") from error
        self._where = parts.netloc.rpartition("@")[2] or repr(url)
        # A proxy for the Internet does not know what "localhost" means here.
        self._session.trust_env = not _is_loopback(parts.hostname or "")

    def path(self, name: str, folder: str = "files") -> str:
        """Path of the file ``name`` in URLs; FileStoreError if no file can have that name."""
        return f"/{folder}/{quote(filenames.checked(name), safe='/')}"

    def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] = b"",
        stream: bool = False,
        allow: tuple[int, ...] = (),
    ) -> requests.Response:
        """The answer, if it is a success or its status is in ``allow``; else FileStoreError."""
        with self.failures():
            answer = self._session.request(
                method,
                self._url + path,
                headers=headers,
                params=params,
                data=body or None,
                stream=stream,
                timeout=self._timeout_s,
                allow_redirects=False,
                # Of the session, it would come after REQUESTS_CA_BUNDLE.
                verify=self._ca_file or None,
            )
        if 200 <= answer.status_code < 300 or answer.status_code in allow:
            return answer
        with answer:
            raise FileStoreError(self._explained(answer), status=answer.status_code)

    def ask_again(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, allow: tuple[int, ...] = ()
    ) -> requests.Response:
        """``ask``, tried again for less than a second while the file store does not answer."""
        patience = Patience()
        while True:
            try:
                return self.ask(method, path, params=params, allow=allow)
            except FileStoreError as error:
                patience.wait_after(error)

    def header(self, answer: requests.Response, name: str) -> str:
        """The header of that name, which every file store sends (else FileStoreError)."""
        try:
            return str(answer.headers[name])
        except KeyError:
            raise self.foreign() from None

    def size(self, answer: requests.Response, name: str) -> int:
        """The bytes that the header of that name counts, as every file store does (else FileStoreError)."""
        text = self.header(answer, name)
        if not re.fullmatch(r"[0-9]{1,18}", text):
            raise self.foreign()
        return int(text)

    def foreign(self) -> FileStoreError:
        """The error for an answer that no file store gives."""
        return FileStoreError(f"what answers at {self._where} is not a file store: check host and port")

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turn what ``requests`` raises into FileStoreError."""
        try:
            yield
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            if wrong := trust.distrust(error, self._ca_file):
                raise FileStoreError(f"the file store at {self._where}: {wrong}") from error
            raise Unreachable(
                f"the file store at {self._where} does not answer ({_reason(error)}): is the stack running? "
                "./buildstack.sh --local --status shows this machine's, --name NAME --status another; "
                "a worker's is at FILE_HOST and FILE_HOST_PORT"
            ) from error
        except requests.RequestException as error:
            raise FileStoreError(f"{self._where}: not the address of a file store ({error})") from error

    def _explained(self, answer: requests.Response) -> str:
        if answer.status_code == 403:
            return f"the file store at {self._where} does not allow that with this token: {_stated(answer)}"
        if answer.status_code == 401:
            return (
                f"the file store at {self._where} does not accept the token: compare FILE_HOST_TOKEN "
                "(a worker's setting) or filestore_token in the stack's endpoints.json with the file "
                "store's own CLOUDBURST_FILESTORE_TOKEN"
            )
        return f"the file store at {self._where} answered {answer.status_code}: {_stated(answer)}"


class _Bearer(AuthBase):
    """Set as ``auth``, for a plain header would be replaced by what ~/.netrc has for the host."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reason(error: BaseException) -> str:
    """What the operating system said, which ``requests`` wraps several times."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return "no answer in time" if isinstance(error, requests.Timeout) else "the connection broke"


def _stated(answer: requests.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (requests.RequestException, ValueError, KeyError, TypeError):
        return answer.reason or "no reason given"
