"""The keeper: one process on the master that ends a stack when its time is over, or nobody uses it."""
