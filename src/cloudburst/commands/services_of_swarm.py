"""Command lines about single services of a stack that runs on a swarm; for its master."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cloudburst.commands.command import Command


def scale(replicas: Mapping[str, int]) -> Command:
    """Let each service have so many replicas; does not wait for them."""
    wanted = (f"{service}={count}" for service, count in replicas.items())
    return Command(("docker", "service", "scale", "--detach", *wanted))


def inspect(services: Sequence[str]) -> Command:
    """Prints per service its name, its image, and how many replicas are wanted."""
    wanted = "{{with .Spec.Mode.Replicated}}{{.Replicas}}{{end}}"
    line = "{{.Spec.Name}} {{.Spec.TaskTemplate.ContainerSpec.Image}} " + wanted
    return Command(("docker", "service", "inspect", "--format", line, *services))


def running(stack: str) -> Command:
    """Prints for each service of the stack its name, and how many tasks run and should: ``1/1``."""
    stack_label = f"label=com.docker.stack.namespace={stack}"
    return Command(
        ("docker", "service", "ls", "--filter", stack_label, "--format", "{{.Name}} {{.Replicas}}")
    )


def containers(service: str) -> Command:
    """Prints the ids of containers of that service which run on this machine, each on a line."""
    label = f"label=com.docker.swarm.service.name={service}"
    return Command(("docker", "ps", "--quiet", "--no-trunc", "--filter", label))
