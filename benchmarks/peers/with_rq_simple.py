"""Stock RQ without the fork: a crash of a job is a crash of the worker."""

from with_rq_fork import done, enqueue
from with_rq_fork import workers as _workers

__all__ = ["done", "enqueue", "workers"]


def workers(processes):
    return _workers(processes, "rq.worker.SimpleWorker")
