"""What a job leaves behind in an executor that runs further jobs."""

from __future__ import annotations

from typing import Any, Dict


class Leftovers:
    """Puts back what a job has changed of its executor."""

    def before(self, job: Dict[str, Any]) -> None:
        """Remember what there is: the function's module is imported, the function is called next."""

    def after(self, job: Dict[str, Any]) -> str:
        """Put it back; why this executor should take no further job, "" if it may. Called once per job."""
        return ""
