"""Builders of command lines: facts in, a ``Command`` out. Nothing here runs anything."""
