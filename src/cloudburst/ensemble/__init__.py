"""The client: submit ensembles to a stack, watch them, and read their results.

==============  ==============================================================================
``stack``       ``Stack``: where ensembles are submitted and found
``ensemble``    ``Ensemble``: one of them, watched, retried, cancelled
``submission``  job descriptions on their way into the queue, in chunks, each exactly once
``payloads``    payloads on their way into the file store
``locks``       which versions a payload's environment has
``provenance``  what an ensemble's jobs ran on, as a document
``connection``  the queue, asked again while it is away
``progress``    what a person sees meanwhile
``pace``        how fast it goes, in numbers and in words
==============  ==============================================================================
"""

from cloudburst.ensemble.ensemble import Ensemble
from cloudburst.ensemble.stack import Stack

__all__ = ["Ensemble", "Stack"]
