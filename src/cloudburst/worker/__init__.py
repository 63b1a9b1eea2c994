"""The worker: supervises executors, and speaks Redis, HTTP and signals. It never imports user code."""
