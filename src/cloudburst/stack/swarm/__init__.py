"""The stack on a Docker Swarm."""
