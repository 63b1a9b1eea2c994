"""What to do where a job wanted to write beside the payload's files."""

from __future__ import annotations

import errno
import re

from .payload import Payload

_REFUSED = re.compile(
    r"permission denied|read-only|errno = 13|cannot (open|create|write)|can't (open|write)", re.I
)
"""What libraries make of the system's error."""

_SIMULATOR = re.compile(r"cannot open (report|(binary )?output|results) file", re.I)
"""What simulators say that name no reason, such as SWMM (errors 303, 305 and 307) and EPANET (302 to 304)."""


def where_to_write(error: BaseException, text: str, payload: Payload) -> str:
    """To be told beside the error; "" if it is not about that."""
    names = [getattr(error, "filename", None), getattr(error, "filename2", None)]
    beside = payload.directory in text or any(
        isinstance(name, str) and payload.contains(name) for name in names
    )
    denied = getattr(error, "errno", None) in {errno.EACCES, errno.EROFS, errno.EPERM}
    if (beside and (denied or _REFUSED.search(text))) or _SIMULATOR.search(text):
        return (
            "the payload's directory is read-only, because all jobs share it: write into the working "
            "directory, and copy there first what a program writes beside"
        )
    return ""
