"""The observer: one process on the master that writes the stack's own measurements to the database."""
