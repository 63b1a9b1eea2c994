"""The stack on a swarm: deploy it, take it down, look at it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cloudburst import config
from cloudburst.commands import docker, machine
from cloudburst.errors import CloudburstError, ConfigError, StackError
from cloudburst.hosts.host import Host
from cloudburst.hosts.local import LocalHost
from cloudburst.hosts.ssh import SshHost
from cloudburst.model import Endpoints, WorkerStatus
from cloudburst.stack.lock import held
from cloudburst.stack.paths import read_text, write_private
from cloudburst.stack.refusals import explained
from cloudburst.stack.swarm import (
    buckets,
    certificates,
    compose,
    images,
    machines,
    memory,
    secrets,
    waiting,
)
from cloudburst.stack.swarm import facts as state
from cloudburst.stack.swarm.act import Act, clean_up
from cloudburst.stack.swarm.certificates import Certificates
from cloudburst.stack.swarm.facts import MachineFacts
from cloudburst.stack.swarm.machines import REGISTRY_IMAGE
from cloudburst.stack.swarm.paths import SwarmPaths
from cloudburst.stack.swarm.plan import Plan, Wanted, plan, why_deploy
from cloudburst.stack.swarm.runner import Runner, Say
from cloudburst.stack.swarm.secrets import Secrets
from cloudburst.stack.swarm.settings import RETENTION, Kind, Settings, Wishes, resolve

LOCK_WAIT_S = 120.0
FACTS_S = 90.0
SETTLE_S = 600.0
ANSWER_S = 120.0


@dataclass(frozen=True)
class Deployed:
    """What a deployment has led to."""

    endpoints: Endpoints
    changed: bool
    """False: all was well before, and nothing was done."""
    took_s: float
    slots: int


def up(
    environ: Mapping[str, str],
    root: Path,
    stack: str,
    wishes: Wishes,
    say: Say,
    *,
    kind: Kind,
    dry: bool = False,
) -> Deployed | None:
    """Deploy the stack, or what is missing or wrong of it; ``root`` is the project's checkout.

    With ``dry``, only say what would be run: returns None. Raises StackError or ConfigError: what was done
    until then stays, and the next deployment goes on from there.
    """
    began = time.monotonic()
    own = SwarmPaths(config.stack_dir(environ, stack))
    with (
        explained(),
        held(own.lock, say, time.sleep, LOCK_WAIT_S),
        own.copied() if dry else contextlib.nullcontext(own) as paths,
    ):
        settings = resolve(kind, wishes, Settings.load(paths.settings), environ)
        paths.make()
        with reached(environ, paths, settings, say, dry=dry) as (runner, hosts):
            answering, silent = _ask(runner, stack)
            there = _with_remembered(paths, hosts, answering, silent)
            for error in silent.values():
                say(f"{error}; going on with the others")
            deployment = Deployment(
                paths=paths,
                root=root,
                stack=stack,
                settings=settings,
                hosts=[host for host in hosts if host.name in there],
                there=there,
                wishes=wishes,
            )
            if not dry:
                settings.save(paths.settings)
            changed = deployment.carry_out(runner)
            if dry:
                return None
            memory.remember(paths.nodes, {**there, **_ask(runner, stack)[0]} if changed else there)
            if silent:
                raise StackError(
                    f"deployed, but not on {', '.join(silent)}, which did not answer: "
                    "run this again when they do, or take them out: --drain NODE --lost"
                )
            return Deployed(deployment.endpoints, changed, time.monotonic() - began, deployment.slots)


@contextlib.contextmanager
def reached(
    environ: Mapping[str, str], paths: SwarmPaths, settings: Settings, say: Say, *, dry: bool = False
) -> Iterator[tuple[Runner, list[Host]]]:
    """The stack's machines, the master first, and what runs commands on them."""
    hosts: list[Host]
    if settings.kind == "docker":
        hosts = [LocalHost(environ)]
    else:
        hosts = [
            SshHost(
                target,
                paths.ssh,
                environ,
                identity=Path(settings.ssh_key) if settings.ssh_key else None,
                settings=Path(settings.ssh_config) if settings.ssh_config else None,
            )
            for target in settings.targets
        ]
    runner = Runner({host.name: host for host in hosts}, say, dry=dry)
    try:
        yield runner, hosts
    finally:
        runner.close()


def read(runner: Runner, stack: str) -> dict[str, MachineFacts]:
    """What is there on each machine. Raises StackError naming all that do not answer."""
    there, silent = _ask(runner, stack)
    if silent:
        raise StackError("\n".join([*map(str, silent.values()), "nothing was deployed"]))
    return there


def _ask(runner: Runner, stack: str) -> tuple[dict[str, MachineFacts], dict[str, CloudburstError]]:
    """What is there on each machine that answers, and why the others do not."""
    names = runner.names
    with runner.threads(len(names)) as pool:
        asked = {name: pool.submit(runner.read, name, machine.facts(stack), FACTS_S) for name in names}
    there: dict[str, MachineFacts] = {}
    silent: dict[str, CloudburstError] = {}
    for name, one in asked.items():
        error = one.exception()
        if isinstance(error, CloudburstError):
            silent[name] = error
        else:
            there[name] = state.parse(one.result())
    return there, silent


def _with_remembered(
    paths: SwarmPaths,
    hosts: Sequence[Host],
    there: Mapping[str, MachineFacts],
    silent: Mapping[str, CloudburstError],
) -> dict[str, MachineFacts]:
    """Nodes that do not answer are still nodes; the master has to answer (StackError)."""
    if hosts[0].name in silent:
        raise StackError("\n".join([*map(str, silent.values()), "nothing was deployed"]))
    remembered = {name: memory.recall(paths.nodes, name) for name in silent}
    found = {**there, **{name: one for name, one in remembered.items() if one}}
    return {host.name: found[host.name] for host in hosts if host.name in found}


class Deployment:
    """One deployment: what should be there, made from settings, secrets and facts."""

    def __init__(
        self,
        *,
        paths: SwarmPaths,
        root: Path,
        stack: str,
        settings: Settings,
        hosts: Sequence[Host],
        there: Mapping[str, MachineFacts],
        wishes: Wishes,
    ) -> None:
        self._paths, self._root, self._stack, self._settings = paths, root, stack, settings
        self._there = there
        self._machines = machines.decide([host.name for host in hosts], there, settings)
        self._master = self._machines[0]
        public = [hosts[0].name, getattr(hosts[0], "address", "")] if settings.kind == "hosts" else []
        names = machines.names(self._master, public, there[self._master.host], settings)
        self._certificates = certificates.ensure(paths, stack, names)
        self._secrets = secrets.ensure(paths, wishes.builds, wishes.keeper_token)
        self._public = public[1] if public else "127.0.0.1"
        self._compose = (root / compose.FILE).read_text(encoding="utf-8")
        self.endpoints = endpoints(stack, settings, self._secrets, self._public, paths)
        self._secret_names, self._config_names, self._wanted = self._decide()
        self._workers: list[WorkerStatus] = []

    @property
    def slots(self) -> int:
        """What its workers have; known when it has been carried out."""
        return sum(worker.slots for worker in self._workers)

    def carry_out(self, runner: Runner) -> bool:
        """Take all steps, and wait until everything does its work; whether there was anything to do."""
        steps = plan(self._there, self._wanted)
        pool = machines.pool(self._machines, self._there)
        if not self._needed(steps):
            references: Mapping[str, str] = steps.references
            failures: list[CloudburstError] = []
        else:
            references, failures = Act(runner, self._wanted, steps, pool).carry_out()
        variables = self._variables(references)
        digest = compose.digest(self._compose, variables)
        why = why_deploy(self._there[self._master.host], self._stack, digest)
        services = self._there[self._master.host].services
        past = waiting.failed_tasks(runner, self._master.host, services.keys())
        if why:
            with runner.step(self._master.host, f"deploying the services ({why})"):
                command = docker.stack_deploy(
                    self._stack, self._compose, variables | {"CLOUDBURST_DEPLOYMENT": digest}
                )
                runner.do(self._master.host, command)
        # One that was cut off may have done everything but tell.
        changed = bool(why) or self._needed(steps) or not self._paths.endpoints.exists()
        if not runner.dry:
            self._wait(runner, digest, past)
            clean_up(runner, self._master.host, steps)
        # Before clients find the stack: what a job has written stays in the shards that it was written into.
        kept = self._settings.variables.get(RETENTION, "")
        try:
            changed |= buckets.ensure(runner, self._master.host, self._stack, kept)
        finally:  # everything else works without
            if not runner.dry:
                self._publish()
        if not runner.dry:
            # After the stack is known to clients: where workers are missing, jobs run on the others.
            self._workers = self._registered(len(failures))
        if failures:
            raise StackError("\n".join(str(error) for error in failures))
        return changed

    def _wait(self, runner: Runner, digest: str, past: frozenset[str]) -> None:
        there = self._there[self._master.host].services.values()
        if not there or not all(one.settled and one.deployment == digest for one in there):
            with runner.step(self._master.host, "waiting for the services"):
                waiting.until_settled(
                    runner, self._master.host, self._stack, digest=digest, timeout_s=SETTLE_S, past=past
                )
        write_private(self._paths.ca, trusted(self._settings, self._certificates))
        waiting.until_answering(self.endpoints, ANSWER_S)

    def _registered(self, failed: int) -> list[WorkerStatus]:
        """The workers, of all machines that run jobs but those that do not answer and that many others."""
        asked = {one.host: self._there[one.host] for one in self._machines if one.worker}
        nodes = {facts.hostname: host for host, facts in asked.items() if not facts.silent}
        return waiting.until_registered(self.endpoints, nodes, failed, ANSWER_S)

    def _publish(self) -> None:
        # The path of the authority is relative, so that the directory can be copied.
        text = replace(self.endpoints, ca_file=self._paths.ca.name).to_json()
        if read_text(self._paths.endpoints) != text:
            write_private(self._paths.endpoints, text)

    @staticmethod
    def _needed(steps: Plan) -> bool:
        return bool(
            any(not one.empty for one in steps.machines)
            or steps.registry
            or steps.build
            or steps.push
            or steps.secrets
            or steps.configs
        )

    def _decide(self) -> tuple[dict[str, str], dict[str, str], Wanted]:
        settings, stack = self._settings, self._stack
        gateway = (
            certificates.given(settings.tls_cert, settings.tls_key, self._public)
            if settings.tls_cert
            else self._certificates.server
        )
        contents = secrets.contents(self._secrets, self._certificates, gateway)
        secret_names = secrets.named(stack, self._secrets.salt, contents)
        configs = compose.configs(self._root)
        config_names = secrets.named(stack, self._secrets.salt, configs)
        several = settings.kind == "hosts"
        given = {name for name in images.IMAGES if self._given(name)}
        wanted = Wanted(
            stack=stack,
            machines=self._machines,
            files={
                one.host: machines.files(stack, one, self._machines, self._certificates)
                for one in self._machines
                if several
            },
            registry=settings.variables.get("CLOUDBURST_IMAGE_REGISTRY", REGISTRY_IMAGE) if several else "",
            repositories=f"{machines.registry_address(self._master)}/cloudburst/"
            if several
            else f"cloudburst-{stack}/",
            sources=tuple(
                images.source(self._root, name, settings.build) for name in images.IMAGES if name not in given
            ),
            secrets={secret_names[name]: text for name, text in contents.items()},
            configs={config_names[name]: text for name, text in configs.items()},
            firewalls=several,
        )
        return secret_names, config_names, wanted

    def _given(self, image: str) -> str:
        """The image that is used instead of one of ours; "" when there is none."""
        return self._settings.variables.get(f"CLOUDBURST_IMAGE_{images.variable(image)}", "")

    def _variables(self, references: Mapping[str, str]) -> dict[str, str]:
        memory_bytes = self._there[self._master.host].memory_bytes
        return compose.variables(
            self._settings, references, self._secret_names, self._config_names, memory_bytes
        )


def endpoints(stack: str, settings: Settings, secret: Secrets, host: str, paths: SwarmPaths) -> Endpoints:
    """Where clients find the stack, and the credentials of a client."""
    host = f"[{host}]" if ":" in host else host
    https = f"https://{host}" + ("" if settings.https_port == 443 else f":{settings.https_port}")
    with_grafana = settings.variables.get("CLOUDBURST_GRAFANA_REPLICAS", "1") != "0"
    return Endpoints(
        stack=stack,
        redis_url=f"rediss://client:{secret.redis['client']}@{host}:{settings.queue_port}/0",
        filestore_url=https,
        filestore_token=secret.filestore_token,
        influx_url=https,
        influx_token=secret.influx_read_token,
        queue_dash_url=f"{https}/queue",
        grafana_url=f"{https}/grafana" if with_grafana else "",
        ca_file=str(paths.ca),
    )


def trusted(settings: Settings, own: Certificates) -> str:
    """The authorities that clients trust: the stack's; for a user's certificate, the usual ones too."""
    if not settings.tls_cert:
        return own.authority
    usual = Path("/etc/ssl/certs/ca-certificates.crt")
    return (
        own.authority
        + Path(settings.tls_cert).read_text("ascii")
        + (usual.read_text("utf-8") if usual.exists() else "")
    )


def known(environ: Mapping[str, str], stack: str) -> tuple[SwarmPaths, Settings]:
    """A stack that was deployed from here. Raises ConfigError when there is none of that name."""
    paths = SwarmPaths(config.stack_dir(environ, stack))
    settings = Settings.load(paths.settings)
    if settings is None:
        raise ConfigError(f"no stack {stack!r} was deployed from here ({paths.settings} does not exist)")
    return paths, settings
