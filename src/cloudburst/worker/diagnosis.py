"""What went wrong in a build and what to do about it, in one line, found in what the tools said."""

from __future__ import annotations

import re
from collections.abc import Callable

from cloudburst.commands import images
from cloudburst.worker.interpreters import Interpreter

_URL = r"https?://(?:[^/@\s]*@)?(?P<host>[^/\s'\")`]+)"

_NO_COMPILER = re.compile(
    r"No such file or directory: '(\S*/)?(gcc|g\+\+|cc|c\+\+|clang|gfortran|f77|f95|make|cmake)'"
    r"|command '\S*(gcc|g\+\+|cc|c\+\+|clang)\S*' failed: No such file"
    r"|unable to execute '\S*(gcc|g\+\+|cc|clang)'|Unknown compiler\(s\)|linker `cc` not found"
    r"|CMAKE_\w+_COMPILER not set|No CMAKE_\w+_COMPILER could be found|[Cc]an(not|'t) find (a )?compiler"
)
_BUILT = re.compile(r"Failed to build `(?P<what>[^`]+)`|Failed building wheel for (?P<wheel>\S+)")
_TAMPERED = re.compile(r"Hash mismatch for `(?P<what>[^`]+)`")
_TAMPERED_PIP = re.compile(r"^\s*(?P<what>\S+)( from \S+.*)?:\s*\n\s*Expected sha256", re.MULTILINE)
_LOGIN = re.compile(r"\b(401 Unauthorized|403 Forbidden|407 Proxy Authentication Required)\b")
_CERTIFICATE = re.compile(r"CERTIFICATE_VERIFY_FAILED|invalid peer certificate")
_SILENT = re.compile(
    r"timed out|Connection refused|[Nn]ame or service not known|dns error|failed to lookup address"
    r"|No route to host|Network is unreachable|Connection reset|tunnel error|Cannot connect to proxy"
    r"|Temporary failure in name resolution|HTTP status server error \([^)]*\)"
)
_ASKED = re.compile(rf"(Failed to fetch: `?|Could not fetch URL |An index URL \(){_URL}")
_ASKED_PIP = re.compile(r"host='(?P<host>[^']+)', port=(?P<port>\d+)")
_ABSENT = re.compile(
    r"No matching distribution found for (?P<pip>.+)|there is no version of (?P<version>\S+)"
    r"|(?:Because|and|that) (?P<name>\S+) was not found in the|Because (?P<wheels>\S+) has no wheels"
)
_CONFLICT = re.compile(r"The conflict is caused by:\n(?P<lines>(?:[ \t]+\S.*\n?)+)")


def explain(said: str, interpreter: Interpreter) -> str:
    """The most particular explanation that fits; "" when nothing that is known does."""
    return next(filter(None, (find(said, interpreter) for find in _EXPLANATIONS)), "")


def reason(said: str) -> str:
    """The first line that names an error, without the word; "" if none does."""
    for line in said.splitlines():
        word, colon, rest = line.strip().partition(": ")
        if colon and word.lower() == "error":
            return rest
    return ""


def unreached(said: str) -> bool:
    """Whether it says that an index could not be asked."""
    return any(pattern.search(said) for pattern in (_SILENT, _CERTIFICATE, _LOGIN))


def _compiler(said: str, interpreter: Interpreter) -> str:
    if not _NO_COMPILER.search(said):
        return ""
    built = _BUILT.search(said)
    what = (built["what"] or built["wheel"]) if built else "a package"
    bake = images.worker(APT="build-essential")
    return (
        f"{what} has no wheel for Python {interpreter.version} on {interpreter.platform}, and building it "
        f"needs a compiler, which this node does not have: choose a version that has a wheel, or bake a "
        f"compiler into the worker image ({bake})"
    )


def _tampered(said: str, interpreter: Interpreter) -> str:
    match = _TAMPERED.search(said) or _TAMPERED_PIP.search(said)
    if not match:
        return ""
    return (
        f"{match['what']} on the package index has not the hash that the Pipfile.lock says: it was changed "
        f"there, or on its way; if you know why, make the lock again with 'pipenv lock'"
    )


def _login(said: str, interpreter: Interpreter) -> str:
    match = _LOGIN.search(said)
    if not match:
        return ""
    return (
        f"the package index{_host(said)} does not let this node in ({match[0]}): see whether the login in "
        f"CLOUDBURST_BUILD_... or PIP_INDEX_URL is right"
    )


def _certificate(said: str, interpreter: Interpreter) -> str:
    if not _CERTIFICATE.search(said):
        return ""
    return (
        f"the certificate of the package index{_host(said)} is signed by nobody whom this node knows: "
        f"start the worker with PIP_CERT set to the file of its authority's certificate"
    )


def _silent(said: str, interpreter: Interpreter) -> str:
    match = _SILENT.search(said)
    host = _host(said)
    if not match or not host:
        return ""
    return (
        f"the package index{host} does not answer ({match[0]}): see whether this node reaches it "
        f"(PIP_INDEX_URL, HTTPS_PROXY), and submit again"
    )


def _absent(said: str, interpreter: Interpreter) -> str:
    match = _ABSENT.search(said)
    if not match:
        return ""
    if "index lookups were disabled" in said:
        return f"no index may be asked (PIP_NO_INDEX), and {_only(match)} is not where PIP_FIND_LINKS points"
    return (
        f"no version matches: the package index has no {_only(match)} for Python {interpreter.version} on "
        f"{interpreter.platform}: correct the Pipfile, and make the lock again if there is one"
    )


def _conflict(said: str, interpreter: Interpreter) -> str:
    match = _CONFLICT.search(said)
    if not match or "ResolutionImpossible" not in said:  # pip says "conflict" of one package, too
        return ""
    wants = "; ".join(line.strip() for line in match["lines"].splitlines())
    return f"its packages cannot be had together ({wants}): correct the Pipfile"


def _host(said: str) -> str:
    if match := _ASKED.search(said):
        return f" at {match['host']}"
    if match := _ASKED_PIP.search(said):
        return f" at {match['host']}:{match['port']}"
    return ""


def _only(match: re.Match[str]) -> str:
    return next(value for value in match.groupdict().values() if value).rstrip(",.")


_EXPLANATIONS: tuple[Callable[[str, Interpreter], str], ...] = (
    *(_compiler, _tampered, _login, _certificate, _silent, _conflict, _absent),
)
