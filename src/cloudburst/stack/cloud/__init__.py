"""A stack on machines of a provider: made, grown, drained and taken away."""
