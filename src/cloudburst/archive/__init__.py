"""Payloads as archives: ``build`` refuses what would not run, ``extract`` refuses what would do harm."""

from cloudburst.archive.packing import SIZE_LIMIT_BYTES, Payload, build, digest
from cloudburst.archive.protection import protect, unprotect
from cloudburst.archive.unpacking import extract

__all__ = ["SIZE_LIMIT_BYTES", "Payload", "build", "digest", "extract", "protect", "unprotect"]
