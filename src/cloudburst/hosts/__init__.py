"""Machines, and the only place where commands are run."""
