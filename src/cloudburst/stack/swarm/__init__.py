"""The stack on a Docker Swarm: machines behind ssh, or this machine's engine as a swarm of one.

``deploy`` reads what is there (``facts``), compares it with what should be, which gives the steps (``plan``),
and takes them (``act``).
"""
