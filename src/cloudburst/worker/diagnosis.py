"""What went wrong, in one line, found in what an installing tool said."""

from __future__ import annotations

from cloudburst.worker.interpreters import Interpreter


def installing(said: str, interpreter: Interpreter) -> str:
    """Why packages of a lock cannot be installed, and what to do about it."""
    return reason(said) or "uv failed"


def resolving(said: str, interpreter: Interpreter) -> str:
    """Why a Pipfile cannot be resolved, and what to do about it."""
    why = reason(said) or "pipenv lock failed"
    return (
        f"{why}. Correct it and submit again; if it is right, see whether this node reaches the package index"
    )


def reason(said: str) -> str:
    """The first line that names an error, without the word; "" if none does."""
    for line in said.splitlines():
        word, colon, rest = line.strip().partition(": ")
        if colon and word.lower() == "error":
            return rest
    return ""
