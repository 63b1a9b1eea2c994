"""A stack at a provider: the machines that are wanted, and the stack on them."""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cloudburst import config
from cloudburst.errors import StackError
from cloudburst.providers.digitalocean.fleet import FleetPlan
from cloudburst.providers.digitalocean.provider import DigitalOcean
from cloudburst.providers.provider import Node
from cloudburst.stack.cloud import account, flavors, keeping, keys, openssh, spending, telling
from cloudburst.stack.cloud.paths import CloudPaths
from cloudburst.stack.cloud.quantities import rate
from cloudburst.stack.cloud.settings import ANYWHERE, Settings, Wishes, name_flag, resolve
from cloudburst.stack.cloud.swarm import Swarm, SwarmOfMachines
from cloudburst.stack.interruption import Interrupted, ending_in_order
from cloudburst.stack.lock import held
from cloudburst.stack.refusals import explained
from cloudburst.stack.swarm.deploy import Deployed
from cloudburst.stack.swarm.runner import Say
from cloudburst.stack.swarm.settings import Wishes as SwarmWishes

LOCK_WAIT_S = 600.0
"""Making and draining machines takes long."""

CONTACT_S = 600.0
"""A machine that has been active for so long lets us in, or never will."""

KNOWN_S = 30.0
"""One that has let us in before does so at once, unless our address has changed."""

Ask = Callable[[str], None]
"""Takes a question, and returns only if the answer is yes."""


def up(
    environ: Mapping[str, str],
    root: Path,
    stack: str,
    wishes: Wishes,
    say: Say,
    *,
    ask: Ask | None = None,
    dry: bool = False,
    drain_s: float | None = None,
    deployment: SwarmWishes | None = None,
    provider: DigitalOcean | None = None,
    swarm: Swarm | None = None,
) -> Deployed | None:
    """Make the stack what is wished for: plan, make machines, deploy, and remove those that are too many.

    ``root`` is the project's checkout. ``ask`` is asked before machines are made or destroyed; None: that is
    agreed. With ``dry``, only say the plan: returns None. ``drain_s``: how long jobs may take to end on nodes
    that are to go. ``deployment``: what is wished for beside the machines. Raises StackError or ConfigError;
    the same call goes on from wherever an earlier one ended, however that was.
    """
    paths = CloudPaths(config.stack_dir(environ, stack))
    with explained(), held(paths.fleet_lock, say, time.sleep, LOCK_WAIT_S):
        settings = resolve(stack, wishes, Settings.load(paths.fleet))
        keeping.check(environ, paths, settings)
        at = provider or account.opened(environ)
        on = swarm or SwarmOfMachines(environ, root, stack, deployment, say)
        plan = at.plan(settings.fleet(stack))
        _check(plan, paths, on)
        flavors.check(flavors.quota(environ), sizes(plan))
        telling.check_cost(plan, settings.max_cost_hourly)
        question = telling.question(plan)
        if question or dry:
            for line in telling.plan_lines(plan):
                say(line)
        if dry:
            return None
        at.check_rights(plan)
        if ask and question:
            ask(question)
        paths.make()
        settings = replace(spending.settled(settings, (*plan.keep, *plan.surplus)), ending=False)
        settings.save(paths.fleet)
        public_key = keys.ensure(paths)
        try:
            done = Change(paths, at, on, say, stack, settings, public_key).carry_out(plan, drain_s)
        except BaseException as error:
            if plan.make:
                error.add_note(_there_now(at, stack))
            raise
        say(f"this costs {rate(plan.price_hourly)}, until ./buildstack.sh{name_flag(stack)} -d")
        return done


def _there_now(at: DigitalOcean, stack: str) -> str:
    """What a call that failed has left, in words."""
    try:
        return telling.there_now(stack, at.nodes(stack))
    except (StackError, KeyboardInterrupt):
        return (
            "machines may have been made, and cost money until they are destroyed: "
            f"./buildstack.sh{name_flag(stack)} --status shows them, -d destroys them"
        )


def sizes(plan: FleetPlan) -> list[str]:
    """Of all machines when the plan has been carried out."""
    return [node.size for node in plan.keep] + [one.size for one in plan.make]


def _check(plan: FleetPlan, paths: CloudPaths, swarm: Swarm) -> None:
    """Raise StackError for a stack that cannot be gone on with."""
    stack = plan.fleet.stack
    if plan.keep and not paths.key.exists():
        raise StackError(
            f"stack {stack} was made elsewhere: its machines let nobody in without the key in "
            f"{paths.root}. Copy that folder from there; or choose another --name; or destroy it: "
            f"./buildstack.sh{name_flag(stack)} -d"
        )
    master = f"{stack}-master"
    if swarm.working and master not in [node.name for node in plan.keep]:
        off = [node for node in plan.surplus if node.name == master]
        how = f"is {telling.WORDS.get(off[0].state, off[0].state)}" if off else "is gone"
        advice = "start it at https://cloud.digitalocean.com, " if off else ""
        raise StackError(
            f"{master} {how}, and the queue, files and results are on it: {advice}or destroy the stack "
            f"(./buildstack.sh{name_flag(stack)} -d), make it anew, and --restore a back-up"
        )


@dataclass
class Change:
    """One change of a stack, from the settings that are saved already."""

    paths: CloudPaths
    provider: DigitalOcean
    swarm: Swarm
    say: Say
    stack: str
    settings: Settings
    public_key: str

    def carry_out(self, plan: FleetPlan, drain_s: float | None) -> Deployed:
        """Machines that are broken go first, then new ones come, then those that are too many leave."""
        if self._clear_broken(plan):
            plan = self.provider.plan(self.settings.fleet(self.stack))
        nodes, problems = self.provider.make(plan, self.public_key, self.say)
        surplus = [node for node in plan.surplus if node.state == "active"]
        openssh.write(self.paths, [*nodes, *surplus])
        answering = self._contact(nodes)
        known = self.swarm.members
        silent = [node.name for node in nodes if node.name not in answering and node.name not in known]
        problems += [self._silent(name) for name in silent]
        names = [node.name for node in nodes if node.name not in silent]
        if f"{self.stack}-master" not in names:
            raise StackError("\n".join([*problems, "without a master there is no stack: run this again"]))
        self._shrink(surplus, names, drain_s)
        try:
            done = self.swarm.deploy(names)
        except StackError as error:
            for line in problems:
                error.add_note(line)
            raise
        if problems:
            raise StackError(
                "\n".join([*problems, "the stack works on the other machines; run this again to complete it"])
            )
        return replace(done, changed=done.changed or bool(plan.make) or bool(plan.surplus))

    def _silent(self, name: str) -> str:
        allowed = ", ".join(self.settings.allow)
        who = f" (this machine is not among --allow {allowed}?)" if allowed else ""
        command = f"./buildstack.sh{name_flag(self.stack)}"
        if name == f"{self.stack}-master":
            other = f"{command} -d, then make the stack anew"
        else:
            other = f"{command} --drain {name} --lost, then run this again"
        return f"{name}: runs, but does not let us in{who}; to have another in its place: {other}"

    def _clear_broken(self, plan: FleetPlan) -> bool:
        """Let go of nodes whose machines are off or gone; whether there were any."""
        broken = [node for node in plan.surplus if node.state not in {"active", "new"}]
        well = {node.name for node in (*plan.keep, *plan.surplus) if node not in broken}
        if self.swarm.working:
            for name in self.swarm.members:
                if name not in well:
                    self.say(f"{name}: its machine is off or gone; its jobs run elsewhere")
                    self.swarm.lost(name)
        self.remove(broken)
        return bool(broken)

    def _contact(self, nodes: list[Node]) -> dict[str, str]:
        """Log in everywhere, and let in nobody but ourselves unless the user said whom."""
        names = [node.name for node in nodes]
        automatic = not self.settings.allow
        known = [name for name in names if name in self.swarm.members]
        first = known or names
        answering = {}
        if self.settings.caller or (known and not automatic):
            answering = self.swarm.reach(first, KNOWN_S)
        door: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if automatic and not answering:
            if self.settings.caller:
                self.say(
                    f"{first[0]} does not let us in: has our address changed? Letting in all for a moment"
                )
            door = self._open()
        with ending_in_order(), door:
            if automatic and known and not answering:
                answering = self.swarm.reach(known, KNOWN_S)
            new = [name for name in names if name not in answering and name not in known]
            answering |= self.swarm.reach(new, CONTACT_S)
            if automatic and answering:
                self._know(_networks(answering.values()))
        return answering

    def _know(self, caller: tuple[str, ...]) -> None:
        """Our address, as the machines see it, is the one to let in."""
        if not caller:
            raise StackError(
                "the machines do not see from which address we come: say it, --allow 203.0.113.7"
            )
        if caller == self.settings.caller:
            return
        self.say(f"the firewall lets in {', '.join(caller)} only, your address; --allow CIDR lets in others")
        self.settings = replace(self.settings, caller=caller)
        self.settings.save(self.paths.fleet)
        self.provider.let_in(self.settings.fleet(self.stack))

    @contextlib.contextmanager
    def _open(self) -> Iterator[None]:
        """Let in anybody, since nobody knows our address; and however it ends, nobody but us afterwards."""
        try:
            self.provider.let_in(replace(self.settings.fleet(self.stack), allow=ANYWHERE))
            yield
        except BaseException as error:
            try:
                self._close()
            except StackError as failure:
                error.add_note(str(failure))
            raise
        self._close()

    def _close(self) -> None:
        """Let in whom the settings name: nobody, if our address did not become known."""
        why = "interrupted"
        for _ in range(2):  # a second Ctrl-C does not leave it open
            try:
                self.provider.let_in(self.settings.fleet(self.stack))
            except (KeyboardInterrupt, Interrupted):
                continue
            except StackError as error:
                why = str(error)
                break
            return
        raise StackError(
            f"the firewall cloudburst-{self.stack} may still let in everybody, on ports 22, 443 and 6380 "
            f"({why}): ./buildstack.sh{name_flag(self.stack)} closes it, or you do at "
            "https://cloud.digitalocean.com/networking/firewalls"
        )

    def _shrink(self, surplus: list[Node], names: list[str], drain_s: float | None) -> None:
        """Drain the nodes that are too many, and remove their machines: no job is lost."""
        members = self.swarm.members
        # Two machines of one name: the stack has the older, which stays.
        leaving = [node for node in surplus if node.name in members and node.name not in names]
        if leaving and not self.swarm.working:
            self.swarm.deploy([*names, *(node.name for node in leaving)])
        if leaving:
            self.swarm.announce([node.name for node in leaving])
        for node in surplus:
            if node in leaving:
                self.swarm.drain(node.name, drain_s)
            self.remove([node])

    def remove(self, nodes: list[Node]) -> None:
        """Take the machines away, and remember what they have cost."""
        if not nodes:
            return
        self.settings = spending.begun(self.settings, nodes, time.time())
        self.settings.save(self.paths.fleet)
        self.provider.remove(nodes, self.say)
        self.settings = spending.settled(self.settings, ())
        self.settings.save(self.paths.fleet)


def _networks(seen: Iterable[str]) -> tuple[str, ...]:
    """The networks of the addresses that machines see; what is none is left out."""
    found = set()
    for text in seen:
        with contextlib.suppress(ValueError):
            found.add(str(ipaddress.ip_network(text)))
    return tuple(sorted(found))
