"""Facts in, argv out."""

from __future__ import annotations

import pytest

from cloudburst.commands import docker
from cloudburst.commands.command import Command


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        (docker.push("10.0.0.1:5000/x:1"), "docker push --quiet 10.0.0.1:5000/x:1"),
        (
            docker.swarm_init("10.0.0.1", "10.201.0.0/16"),
            "docker swarm init --advertise-addr 10.0.0.1 --default-addr-pool 10.201.0.0/16",
        ),
        (docker.swarm_token(), "docker swarm join-token --quiet worker"),
        (docker.swarm_leave(), "docker swarm leave --force"),
        (
            docker.node_labels("abc", {"cloudburst.worker": "true", "cloudburst.master": ""}),
            "docker node update --label-rm cloudburst.master --label-add cloudburst.worker=true abc",
        ),
        (docker.node_availability("abc", "drain"), "docker node update --availability drain abc"),
        (docker.node_remove("abc", force=True), "docker node rm --force abc"),
        (docker.secret_remove(["a", "b"]), "docker secret rm a b"),
        (docker.stack_remove("swarm"), "docker stack rm swarm"),
        (docker.container_remove("r"), "docker rm --force --volumes r"),
    ],
)
def test_a_command_is_what_one_would_type(command: Command, argv: str) -> None:
    assert command == Command(tuple(argv.split()))


def test_a_build_reads_its_context_from_stdin() -> None:
    command = docker.build("r/worker:1", "images/worker/Dockerfile", b"tar", {"B": "2", "A": "1 x"}, "swarm")

    assert command.argv == (
        *("docker", "build", "--tag", "r/worker:1", "--label", "cloudburst.stack=swarm"),
        *("--file", "images/worker/Dockerfile", "--build-arg", "A=1 x", "--build-arg", "B=2", "-"),
    )
    assert command.stdin == b"tar"


def test_secrets_and_tokens_are_in_no_argv() -> None:
    commands = [
        docker.secret_create("swarm_x_12", "hush", "swarm"),
        docker.swarm_join("hush", "10.0.0.2", "10.0.0.1:2377"),
    ]

    for command in commands:
        assert "hush" not in " ".join(command.argv)
        assert "hush" not in f"{command} {command!r}"
        assert command.stdin is not None
        assert "hush" in str(command.stdin)


def test_a_stack_is_deployed_from_stdin_with_images_as_they_are_named() -> None:
    assert docker.stack_deploy("swarm", "version: ...", {"A": "1"}) == Command(
        ("docker", "stack", "deploy", "--prune", "--resolve-image", "never", "-c", "-", "swarm"),
        stdin="version: ...",
        env={"A": "1"},
    )
