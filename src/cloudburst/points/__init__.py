"""Points: encoding them, storing them on the local stack, and getting them from a worker to InfluxDB."""
