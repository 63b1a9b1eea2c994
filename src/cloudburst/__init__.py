"""CloudBurst runs ensembles: one Python simulation over thousands to millions of scenarios.

::

    from cloudburst import Stack

    stack = Stack.connect()
    floods = stack.submit("floods", payload="model/", function="worker.work",
                          jobs=({"seed": seed} for seed in range(10_000)))
    frame = floods.wait() and floods.results().to_frame()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cloudburst.names import VERSION as __version__

if TYPE_CHECKING:
    from cloudburst.ensemble import Ensemble, Stack
    from cloudburst.ensemble.progress import follow
    from cloudburst.errors import CloudburstError
    from cloudburst.model import EnsembleStatus, FailureGroup, JobRecord
    from cloudburst.results import Results

__all__ = [
    "CloudburstError",
    "Ensemble",
    "EnsembleStatus",
    "FailureGroup",
    "JobRecord",
    "Results",
    "Stack",
    "__version__",
    "follow",
]

_HOMES = {
    "CloudburstError": "cloudburst.errors",
    "Ensemble": "cloudburst.ensemble",
    "EnsembleStatus": "cloudburst.model",
    "FailureGroup": "cloudburst.model",
    "JobRecord": "cloudburst.model",
    "Results": "cloudburst.results",
    "Stack": "cloudburst.ensemble",
    "follow": "cloudburst.ensemble.progress",
}
"""Where the public names live. They are imported when they are first used: Redis and HTTP take a while."""


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
