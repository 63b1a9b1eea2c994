"""A stack on machines that are made for it at a provider, and taken away with it.

What is wanted stands in ``fleet.json`` of the stack's directory before anything is created. The machines
become the hosts of a stack on a swarm (``stack.swarm``), reached by their names through a configuration of
ssh that is written here.
"""
