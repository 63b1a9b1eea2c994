"""What a job logs: from INFO on, to its output, until it says otherwise."""

from __future__ import annotations

import logging
import sys
from typing import Any, Iterator, List


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg] # generic since Python 3.11
    """Writes to what sys.stderr is when it writes."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    @property
    def stream(self) -> Any:
        return sys.stderr


class _Handlers(List[logging.Handler]):
    """Handlers of the root logger: while it has none, records go to ours."""

    def __init__(self) -> None:
        super().__init__()
        self._ours = _Stderr()

    def __iter__(self) -> Iterator[logging.Handler]:
        return super().__iter__() if len(self) else iter((self._ours,))


def capture() -> None:
    """The root logger looks as if nobody had configured it, so ``logging.basicConfig`` of a job takes effect,
    as does whatever asks first whether there are handlers.
    """
    logging.root.handlers = _Handlers()
    logging.root.setLevel(logging.INFO)
