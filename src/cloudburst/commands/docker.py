"""Command lines of Docker's client, from 20.10 on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from cloudburst.commands.command import Command

STACK_LABEL = "com.docker.stack.namespace"
"""Docker puts it on everything that `docker stack deploy` makes, with the stack's name."""

BEGUN_LABEL = "cloudburst.begun"
"""Ours, on the node by which a swarm was started, with the name of the stack that it was started for."""

OWNER_LABEL = "cloudburst.stack"
"""Ours, on secrets, configs and images, with the stack's name."""


def build(
    reference: str, dockerfile: str, context: bytes, arguments: Mapping[str, str], stack: str
) -> Command:
    """Build an image from a tar archive and give it a name."""
    given = [word for name, value in sorted(arguments.items()) for word in ("--build-arg", f"{name}={value}")]
    label = f"{OWNER_LABEL}={stack}"
    argv = ("docker", "build", "--tag", reference, "--label", label, "--file", dockerfile, *given, "-")
    return Command(argv, stdin=context)


def push(reference: str) -> Command:
    return Command(("docker", "push", "--quiet", reference))


def image_id(reference: str) -> Command:
    """Print the ID that the image has on that machine."""
    return Command(("docker", "image", "inspect", "--format", "{{.Id}}", reference))


def registry_digest(name: str, reference: str) -> Command:
    """Print the digest that the registry of that name has of an image; fails when it has none.

    The engine cannot be asked: with containerd's image store it names a digest for what was never pushed.
    """
    image, _, tag = reference.partition("/")[2].rpartition(":")
    tags = f"/var/lib/registry/docker/registry/v2/repositories/{image}/_manifests/tags"
    return Command(("docker", "exec", name, "cat", f"{tags}/{tag}/current/link"))


def remove_images(stack: str) -> Command:
    """Remove all of the stack's own images from that machine, with or without a name."""
    script = 'docker image ls --all --quiet --filter "label=$1" | sort -u | xargs -r docker image rm --force'
    return Command(("sh", "-c", script, "remove", f"{OWNER_LABEL}={stack}"))


def network_remove(name: str) -> Command:
    return Command(("docker", "network", "rm", name))


def swarm_init(address: str, pool: str) -> Command:
    """Start a swarm of one. ``pool``: where its networks take their addresses from."""
    return Command(("docker", "swarm", "init", "--advertise-addr", address, "--default-addr-pool", pool))


def swarm_join(token: str, address: str, manager: str) -> Command:
    """Join as a worker.

    Docker takes the token in argv only; the shell of ``sh`` reads it from stdin, so that at least it is in
    nobody's log, and in a process list for a moment only.
    """
    script = 'read -r token; exec docker swarm join --token "$token" --advertise-addr "$1" "$2"'
    return Command(("sh", "-c", script, "join", address, manager), stdin=f"{token}\n", secrets=(token,))


def swarm_token() -> Command:
    """Print what a machine needs to join as a worker."""
    return Command(("docker", "swarm", "join-token", "--quiet", "worker"))


def swarm_leave() -> Command:
    """Leave the swarm; the last manager ends it."""
    return Command(("docker", "swarm", "leave", "--force"))


def node_id() -> Command:
    """Print the ID that the machine has as a node."""
    return Command(("docker", "info", "--format", "{{.Swarm.NodeID}}"))


def node_labels(node: str, labels: Mapping[str, str]) -> Command:
    """Give a node labels; those with an empty value are taken away."""
    words: list[str] = []
    for name, value in sorted(labels.items()):
        words += ["--label-add", f"{name}={value}"] if value else ["--label-rm", name]
    return Command(("docker", "node", "update", *words, node))


def node_availability(node: str, availability: str) -> Command:
    """``active`` or ``drain``."""
    return Command(("docker", "node", "update", "--availability", availability, node))


def node_remove(node: str, *, force: bool = False) -> Command:
    return Command(("docker", "node", "rm", *(["--force"] if force else []), node))


def secret_create(name: str, contents: str, stack: str) -> Command:
    return Command(
        ("docker", "secret", "create", "--label", f"{OWNER_LABEL}={stack}", name, "-"), stdin=contents
    )


def config_create(name: str, contents: str, stack: str) -> Command:
    return Command(
        ("docker", "config", "create", "--label", f"{OWNER_LABEL}={stack}", name, "-"), stdin=contents
    )


def secret_remove(names: Sequence[str]) -> Command:
    return Command(("docker", "secret", "rm", *names))


def config_remove(names: Sequence[str]) -> Command:
    return Command(("docker", "config", "rm", *names))


def stack_deploy(stack: str, compose: str, variables: Mapping[str, str]) -> Command:
    """Deploy a compose file; services that it no longer names are removed."""
    return Command(
        ("docker", "stack", "deploy", "--prune", "--resolve-image", "never", "-c", "-", stack),
        stdin=compose,
        env=dict(variables),
    )


def stack_remove(stack: str) -> Command:
    return Command(("docker", "stack", "rm", stack))


def services(stack: str) -> Command:
    """Print a JSON object per service: Name, Mode, Replicas (``1/2``), Image."""
    return Command(
        ("docker", "service", "ls", "--filter", f"label={STACK_LABEL}={stack}", "--format", "{{json .}}")
    )


def tasks(services_: Collection[str]) -> Command:
    """Print a JSON object per task, latest first: ID, Name, Node, DesiredState, CurrentState, Error."""
    return Command(("docker", "service", "ps", "--no-trunc", "--format", "{{json .}}", *services_))


def task_logs(task: str, *, tail: int) -> Command:
    """Print what a task, by its ID, has written: stdout and stderr as they were."""
    return Command(("docker", "service", "logs", "--raw", "--tail", str(tail), task))


def service_logs(service: str, *, tail: int) -> Command:
    """Print what a service has written, of each task the last lines: ``TIME TASK@NODE    | TEXT``."""
    return Command((*_SERVICE_LOGS, "--tail", str(tail), service))


def service_logs_from(service: str, since: str) -> Command:
    """Go on printing what a service writes, and has written since that TIME; "": ever."""
    words = ("--since", since) if since else ()
    return Command((*_SERVICE_LOGS, "--follow", *words, service))


_SERVICE_LOGS = ("docker", "service", "logs", "--timestamps", "--no-task-ids")


def service_scale(service: str, replicas: int) -> Command:
    return Command(("docker", "service", "scale", "--detach", f"{service}={replicas}"))


def volumes(stack: str) -> Command:
    """Print the names of the stack's volumes on that machine."""
    return Command(("docker", "volume", "ls", "--quiet", "--filter", f"label={STACK_LABEL}={stack}"))


def volume_remove(names: Sequence[str]) -> Command:
    """Remove volumes; those that are not there do not matter."""
    return Command(("docker", "volume", "rm", "--force", *names))


def containers(stack: str) -> Command:
    """Print ID, state and name of the stack's containers on that machine, of ended ones too; a line each."""
    form = "{{.ID}} {{.State}} {{.Names}}"
    return Command(("docker", "ps", "--all", "--filter", f"label={STACK_LABEL}={stack}", "--format", form))


def registry(name: str, image: str, directory: str) -> Command:
    """Start a registry on the machine's own network; its settings and certificates are in ``directory``."""
    return Command(
        (
            *("docker", "run", "--detach", "--name", name, "--restart", "always", "--network", "host"),
            *("--volume", f"{directory}/registry.yml:/etc/docker/registry/config.yml:ro"),
            *("--volume", f"{directory}:{directory}:ro"),
            *("--volume", f"{name}:/var/lib/registry"),
            *("--log-opt", "max-size=10m", "--log-opt", "max-file=3"),
            image,
        )
    )


def container_remove(*names: str) -> Command:
    return Command(("docker", "rm", "--force", "--volumes", *names))


def service_containers(service: str) -> Command:
    """Print the IDs of that service's running containers on that machine."""
    return Command(("docker", "ps", "--quiet", "--filter", f"label=com.docker.swarm.service.name={service}"))


def stop(containers_: Sequence[str]) -> Command:
    """SIGTERM, and SIGKILL when the grace period of each is over. The swarm starts others instead."""
    return Command(("docker", "stop", *containers_))
