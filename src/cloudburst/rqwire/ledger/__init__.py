"""The ledger: whether each job that was accepted is in one place, or has one record; from Redis alone.

``seen`` holds what an audit has seen, ``audit`` reads and judges, ``repair`` puts right what can be derived.
"""

from cloudburst.rqwire.ledger.audit import Ledger
from cloudburst.rqwire.ledger.repair import repair

__all__ = ["Ledger", "repair"]
