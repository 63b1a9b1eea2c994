"""Command lines that read and write Docker volumes through a container that lives for that only.

``image`` is any of Debian: the stack's own images are. Nothing goes through the engine's log, which would be
a copy on the machine's disk.
"""

from __future__ import annotations

from cloudburst.commands.command import Command

HIDDEN = ".store"
"""Folder of the file store's own records, which hold for that disk only."""


def exists(volume: str) -> Command:
    """Prints the names of volumes, each on a line, that contain ``volume``."""
    return Command(("docker", "volume", "ls", "--quiet", "--filter", f"name={volume}"))


def listing(volume: str, image: str) -> Command:
    """Prints size in bytes, Unix time of last change and path of each file; NUL behind each path."""
    find = ("find", ".", "-name", HIDDEN, "-prune", "-o", "-type", "f", "-printf", r"%s %T@ %P\0")
    return _in_container(volume, image, *find, read_only=True)


def pack(volume: str, image: str) -> Command:
    """Prints a tar of everything in the volume."""
    tar = ("tar", "--create", "--format=pax", "--numeric-owner", "--file=-", ".")
    return _in_container(volume, image, *tar, read_only=True)


def pack_some(volume: str, image: str) -> Command:
    """Prints a tar of the files whose paths come in, a NUL behind each; those that are gone are left out."""
    which = ("--null", "--verbatim-files-from", "--no-recursion", "--ignore-failed-read", "--files-from=-")
    tar = ("tar", "--create", "--file=-", "--format=pax", "--hard-dereference", *which)
    return _in_container(volume, image, *tar, read_only=True)


def clear(volume: str, image: str) -> Command:
    """Removes everything in the volume."""
    return _in_container(volume, image, "find", ".", "-mindepth", "1", "-delete")


def unpack(volume: str, image: str) -> Command:
    """Unpacks the tar that comes in, with its owners."""
    tar = ("tar", "--extract", "--numeric-owner", "--same-owner", "--preserve-permissions", "--file=-")
    return _in_container(volume, image, *tar)


def _in_container(volume: str, image: str, *argv: str, read_only: bool = False) -> Command:
    # Without a copy of what the image has there: that would give an empty volume the image's owner.
    mount = f"type=volume,source={volume},target=/volume,volume-nocopy" + (",readonly" if read_only else "")
    program, *arguments = argv
    return Command(
        (
            *("docker", "run", "--rm", "--interactive", "--log-driver", "none", "--network", "none"),
            *("--user", "0:0", "--mount", mount, "--workdir", "/volume"),
            *("--entrypoint", program, image, *arguments),
        )
    )
