"""Every error that CloudBurst raises for a user's eyes.

::

    CloudburstError
    ├── ConfigError         a setting, flag, file or environment variable is wrong
    ├── PayloadError        a payload that would not run, or an archive that is not safe to unpack
    ├── BuildError          the payload's dependencies cannot be installed
    │   └── NoRoomError     this node's disk has no room for them
    ├── FileStoreError      the file store refused or failed
    ├── QueueError          Redis cannot be reached, refuses, or is of the wrong version
    ├── PointsError         points could not be written, or are malformed
    ├── EnsembleError       an ensemble or job that does not exist, or cannot do what is asked
    └── StackError          a service or a node of a stack does not start, stop or answer
        ├── CommandError    a command failed on a host
        └── ProviderError   a provider refuses, fails, or has not what is asked of it

The message says what failed, on what, and what to do next; facts are attributes.
The command line prints it in one line and exits with ``exit_code``.
"""

from __future__ import annotations


class CloudburstError(Exception):
    """Root of the tree. Raised only as one of its subclasses."""

    exit_code = 1


class ConfigError(CloudburstError):
    """A setting, flag, file or environment variable is wrong."""

    exit_code = 2


class PayloadError(CloudburstError):
    """A payload would not run, or its archive is not safe to unpack."""

    exit_code = 3


class BuildError(CloudburstError):
    """The payload's dependencies cannot be installed.

    ``tail`` holds the last lines that the installing tool wrote.
    """

    exit_code = 4

    def __init__(self, message: str, tail: str = "") -> None:
        super().__init__(message)
        self.tail = tail

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\n{self.tail}" if self.tail else message


class NoRoomError(BuildError):
    """The disk of this node has no room for an environment; other nodes may have."""


class FileStoreError(CloudburstError):
    """The file store refused or failed. ``status`` is its HTTP status, 0 if it did not answer."""

    exit_code = 5

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class QueueError(CloudburstError):
    """Redis cannot be reached, refuses, or is of the wrong version."""

    exit_code = 6


class PointsError(CloudburstError):
    """Points could not be written, or are malformed."""

    exit_code = 7


class EnsembleError(CloudburstError):
    """An ensemble or job does not exist, or cannot do what is asked of it."""

    exit_code = 8


class StackError(CloudburstError):
    """A service or a node of a stack does not start, stop or answer."""

    exit_code = 9


class CommandError(StackError):
    """A command failed on a host."""

    def __init__(self, message: str, *, host: str, exit_code: int, stderr: str) -> None:
        super().__init__(message)
        self.host = host
        self.command_exit_code = exit_code
        self.stderr = stderr


class ProviderError(StackError):
    """A provider refuses, fails, or has not what is asked of it.

    ``status`` is the HTTP status, 0 if no answer came or the reason is none of the API's; ``identity`` (such
    as ``unprocessable_entity``), ``reason`` and ``request_id`` are the API's own words about an error.
    """

    def __init__(
        self, message: str, *, status: int = 0, identity: str = "", reason: str = "", request_id: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.identity = identity
        self.reason = reason
        self.request_id = request_id
