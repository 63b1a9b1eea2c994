"""What the system refuses while a stack starts or stops, with what helps against that."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from cloudburst.errors import StackError

_ELSEWHERE = "CLOUDBURST_HOME chooses another place for stacks"
_ADVICE = (
    ({errno.EACCES, errno.EPERM, errno.EROFS}, f": it has to be yours to write; {_ELSEWHERE}"),
    ({errno.ENOSPC, errno.EDQUOT}, f": make room on that disk; {_ELSEWHERE}"),
    ({errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}, f": it is in the way; {_ELSEWHERE}"),
    ({errno.ENAMETOOLONG}, f": use a shorter path; {_ELSEWHERE}"),
    ({errno.EMFILE, errno.ENFILE}, ": allow more open files (ulimit -n 4096)"),
    ({errno.EAGAIN, errno.ENOMEM}, ": this machine has no room for more processes: end some of them"),
)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn OSError into StackError."""
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        advice = next((text for numbers, text in _ADVICE if error.errno in numbers), "")
        raise StackError(f"{where}{error.strerror or error}{advice}") from error
