"""Stacks: a master's services and its workers. They know machines, not jobs.

``local`` starts, stops and shows the stack on this machine. It reads what is there (``facts``), compares
it with what should be (``services``), which gives the steps (``plan``), and takes them (``act``).
"""
