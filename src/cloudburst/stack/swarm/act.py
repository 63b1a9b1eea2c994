"""Act: take the steps of a plan, side by side on all machines."""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures import wait as wait_for

from cloudburst.commands import docker, firewall, machine
from cloudburst.errors import CloudburstError, StackError
from cloudburst.stack.swarm import machines
from cloudburst.stack.swarm.images import FIRST, Source
from cloudburst.stack.swarm.plan import MachinePlan, Plan, Wanted
from cloudburst.stack.swarm.runner import SHORT_S, Runner

INSTALL_S = 1800.0
BUILD_S = 3600.0
PUSH_S = 1800.0

BUILDS = 3
"""Images built at a time: much of each is waiting for a mirror."""

SWARM_PORT = 2377

GOSSIP_PORT = 7946
"""At which Docker listens to the other nodes. After it has left a swarm it may go on doing so."""

RELEASED_S = 30


class Act:
    """Makes machines nodes of the stack's swarm, and images."""

    def __init__(self, runner: Runner, wanted: Wanted, steps: Plan, pool: str) -> None:
        self._runner = runner
        self._wanted = wanted
        self._steps = steps
        self._pool = pool
        self._master = wanted.machines[0].host
        self._token: Future[str] = Future()

    def carry_out(self) -> tuple[dict[str, str], list[CloudburstError]]:
        """Take all steps. Returns the images by digest, and what failed on machines other than the master.

        Raises CommandError when something fails on the master: nothing can be done without.
        """
        first, *others = self._steps.machines
        with self._runner.threads(len(others) + 2) as pool:
            joining = [pool.submit(self._other, one) for one in others]
            try:
                self._prepare(first)
                self._found(first)
                made = pool.submit(self._make)
                references = self._images()
                made.result()
            except BaseException as error:
                if not self._token.done():
                    self._token.set_exception(error)
                raise
            wait_for(joining)
        failures = []
        for one in joining:
            failure = one.exception()
            if isinstance(failure, CloudburstError):
                failures.append(failure)
            elif failure:
                raise failure
        return references, failures

    def _prepare(self, steps: MachinePlan) -> None:
        """Docker and files, on any machine."""
        host, run = steps.machine.host, self._runner
        if steps.install:
            with run.step(host, "installing Docker"):
                run.do(host, machine.install_docker(), INSTALL_S)
        if steps.start:
            with run.step(host, "starting Docker"):
                run.do(host, machine.start_docker())
        if steps.files:
            with run.step(host, "writing certificates and firewall rules"):
                for file in steps.files:
                    run.do(host, machine.write_file(file.path, file.contents, file.mode))
        if steps.firewall:
            run.do(host, firewall.apply(systemd=steps.machine.systemd))

    def _found(self, steps: MachinePlan) -> None:
        """The swarm, on the master."""
        host, run = steps.machine.host, self._runner
        if steps.swarm:
            with run.step(host, "starting a swarm"):
                free_port(run, host)
                run.do(host, docker.swarm_init(steps.machine.address, self._pool))
            node = run.ask(host, docker.node_id(), f"(node {host})")
            run.do(host, docker.node_labels(node, {docker.BEGUN_LABEL: self._wanted.stack}))
        self._label(steps)
        if any(one.swarm == "join" for one in self._steps.machines):
            self._token.set_result(run.ask(host, docker.swarm_token(), "(the swarm's token)"))
        else:
            self._token.set_result("")

    def _other(self, steps: MachinePlan) -> None:
        """A machine that is not the master."""
        self._prepare(steps)
        host, run = steps.machine.host, self._runner
        token = self._token.result()
        if steps.swarm:
            manager = self._wanted.machines[0].address
            manager = f"[{manager}]:{SWARM_PORT}" if ":" in manager else f"{manager}:{SWARM_PORT}"
            with run.step(host, "joining the swarm"):
                free_port(run, host)
                run.do(host, docker.swarm_join(token, steps.machine.address, manager))
        self._label(steps)

    def _label(self, steps: MachinePlan) -> None:
        if steps.labels:
            node = self._runner.ask(steps.machine.host, docker.node_id(), f"(node {steps.machine.host})")
            self._runner.do(self._master, docker.node_labels(node, steps.labels))

    def _make(self) -> None:
        """Secrets and configs."""
        steps, run, stack = self._steps, self._runner, self._wanted.stack
        if not steps.secrets and not steps.configs:
            return
        with run.step(self._master, f"making {len(steps.secrets)} secrets, {len(steps.configs)} configs"):
            for name in steps.secrets:
                run.do(self._master, docker.secret_create(name, self._wanted.secrets[name], stack))
            for name in steps.configs:
                run.do(self._master, docker.config_create(name, self._wanted.configs[name], stack))

    def _images(self) -> dict[str, str]:
        steps, run, wanted = self._steps, self._runner, self._wanted
        if steps.registry:
            with run.step(self._master, "starting the registry"):
                name = machines.registry_name(wanted.stack)
                run.do(self._master, docker.container_remove(name))
                place = machines.directory(wanted.stack)
                run.do(self._master, docker.registry(name, wanted.registry, place), PUSH_S)
        # All of them, if the registry has lost what it had.
        new = {source.image for source in (*steps.build, *steps.push)}
        # Those to be built first, so that the count is right.
        again = [*steps.build, *(one for one in wanted.sources if one not in steps.build)]
        again = [source for source in again if steps.registry or source.image in new]
        building = {source.image for source in steps.build}
        references = dict(steps.references)
        with run.threads(BUILDS) as pool:
            running: dict[str, Future[str]] = {}
            for source in again:
                number = f"({len(running) + 1}/{len(building)})" if source.image in building else ""
                running[source.image] = pool.submit(
                    self._image, source, number, running.get(FIRST.get(source.image, ""))
                )
            for image, one in running.items():
                references[image] = one.result()
        return references

    def _image(self, source: Source, number: str, first: Future[str] | None) -> str:
        """Build it, unless it is, and push it; what it is called by digest."""
        if first is not None:
            wait_for([first])
        run, reference = self._runner, self._wanted.reference(source)
        if number:
            with run.step(self._master, f"building the image of {source.image} {number}"):
                command = docker.build(
                    reference, source.dockerfile, source.context(), source.arguments, self._wanted.stack
                )
                run.do(self._master, command, BUILD_S)
        unknown = f"(digest of {source.image})"
        if not self._wanted.registry:
            return run.ask(self._master, docker.image_id(reference), unknown).strip()
        run.do(self._master, docker.push(reference), PUSH_S)
        name = machines.registry_name(self._wanted.stack)
        digest = run.ask(self._master, docker.registry_digest(name, reference), unknown).strip()
        return digest if run.dry else f"{self._wanted.repositories}{source.image}@{digest}"


def free_port(runner: Runner, host: str, port: int = GOSSIP_PORT, wait_s: int = RELEASED_S) -> None:
    """Wait until Docker has let go of the last swarm's port; start it again if it does not, and runs nothing.

    Else the machine would become a node whose containers cannot start. Raises StackError.
    """
    held = runner.ask(host, machine.await_port(port, wait_s), "", wait_s + SHORT_S)
    if held == "held 0":
        with runner.step(host, f"restarting Docker, since port {port} is still in use after another swarm"):
            runner.do(host, machine.restart_docker())
        held = runner.ask(host, machine.await_port(port, wait_s), "", wait_s + SHORT_S)
    if held:
        raise StackError(
            f"{host}: port {port}, which Docker Swarm needs, is in use there. If this machine was in another "
            "swarm, restart Docker on it (that ends its containers); then deploy again"
        )


def clean_up(runner: Runner, master: str, steps: Plan) -> None:
    """Remove secrets and configs of earlier deployments. Those still in use stay until the next time."""
    for names, remove in (
        (steps.stale_secrets, docker.secret_remove),
        (steps.stale_configs, docker.config_remove),
    ):
        for name in names:
            try:
                runner.do(master, remove([name]))
            except StackError:
                continue
