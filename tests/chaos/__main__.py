"""``python -m tests.chaos --seconds 300 --seeds 1 2 3``: storms, and a table of what they did."""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.storm import MAX_ATTEMPTS, Outcome, Storm
from tests.chaos.world import RESTART_S, world_in


def main() -> int:
    """Exit status 0 when nothing was lost or doubled in any storm."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="how long each storm lasts")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    given = parser.parse_args()
    console = Console()
    outcomes = [_storm(seed, given.seconds, console) for seed in given.seeds]
    console.print(_table(outcomes))
    bad = [outcome for outcome in outcomes if breaches_of(outcome)]
    for outcome in bad:
        for breach in breaches_of(outcome)[:50]:
            console.print(f"seed {outcome.seed}: {breach}", markup=False)
        console.print(
            f"again: make chaos SECONDS={given.seconds:g} SEEDS={outcome.seed} (its logs are kept in"
            f" {_directory(outcome.seed)})",
            markup=False,
        )
    return 1 if bad else 0


def breaches_of(outcome: Outcome) -> list[str]:
    """All that is wrong with it, in words."""
    found = list(dict.fromkeys(outcome.breaches))
    if outcome.lost or outcome.doubled or outcome.records != outcome.jobs:
        found.append(f"{outcome.jobs} jobs, {outcome.records} records")
    if outcome.max_attempt > MAX_ATTEMPTS:
        found.append(f"{outcome.max_attempt} attempts of one job, at most {MAX_ATTEMPTS} are allowed")
    if outcome.longest_restart_s > RESTART_S:
        found.append(f"{outcome.longest_restart_s:.1f} s until a job ran again, {RESTART_S} s are promised")
    return found


def _directory(seed: int) -> Path:
    return Path(tempfile.gettempdir()) / f"cloudburst-chaos-{seed}"


def _storm(seed: int, seconds: float, console: Console) -> Outcome:
    console.print(f"seed {seed}: {seconds:g} s", markup=False)
    directory = Path(tempfile.mkdtemp(prefix="cloudburst-chaos-"))
    kept = _directory(seed)
    kept.unlink(missing_ok=True)
    kept.symlink_to(directory)
    with world_in(directory) as world:
        storm = Storm(world, seed)
        try:
            return storm.rage(seconds=seconds)
        except AssertionError:
            storm.outcome.breaches.append(traceback.format_exc())
            return storm.outcome


def _table(outcomes: list[Outcome]) -> Table:
    table = Table()
    phases = sorted({phase for outcome in outcomes for phase in outcome.kills})
    rows: list[tuple[str, list[object]]] = [
        ("jobs", [o.jobs for o in outcomes]),
        ("records", [o.records for o in outcomes]),
        ("lost", [o.lost for o in outcomes]),
        ("doubled", [o.doubled for o in outcomes]),
        ("wrong", [o.wrong for o in outcomes]),
        ("hostile jobs", [o.hostile.total() for o in outcomes]),
        ("  of kinds", [len(o.hostile) for o in outcomes]),
        ("spoiled stock jobs", [o.spoiled for o in outcomes]),
        ("largest worker (MiB)", [f"{o.worker_mib:.0f}" for o in outcomes]),
        ("most attempts", [o.max_attempt for o in outcomes]),
        ("longest restart (s)", [f"{o.longest_restart_s:.2f}" for o in outcomes]),
        ("workers killed", [o.kills.total() for o in outcomes]),
        *((f"  {phase}", [o.kills[phase] for o in outcomes]) for phase in phases),
        ("executors killed", [o.executor_kills for o in outcomes]),
        ("pauses of two leases", [o.pauses for o in outcomes]),
        ("Redis killed", [o.redis_kills for o in outcomes]),
        ("calls and replies lost", [o.lost_replies for o in outcomes]),
        ("database faults", [o.database_faults for o in outcomes]),
        ("audits while it ran", [o.audits for o in outcomes]),
        ("audit clean", ["no" if breaches_of(o) else "yes" for o in outcomes]),
    ]
    table.add_column("seed")
    for outcome in outcomes:
        table.add_column(str(outcome.seed), justify="right")
    for name, values in rows:
        table.add_row(name, *map(str, values))
    return table


if __name__ == "__main__":
    sys.exit(main())
