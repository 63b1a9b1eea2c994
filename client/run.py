#!/usr/bin/env python3
"""Run the example ensemble: EPANET's Net3 with uncertain pipe diameters. Copy this file for your own.

    client/run.py --jobs 100

It needs a running stack (./buildstack.sh --local). Results go to client/results/.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYTHON = HERE.parent / ".venv" / "bin" / "python"  # made by buildstack.sh

try:
    import matplotlib
    import numpy as np

    from cloudburst import Stack, follow
    from cloudburst.errors import CloudburstError
    from cloudburst.stack.cloud import ending
except ImportError as error:
    if Path(sys.executable) == PYTHON or not PYTHON.exists():
        sys.exit(f"run.py: {error}; run ./buildstack.sh --setup once")
    os.execv(PYTHON, [PYTHON, *sys.argv])


def main() -> int:
    options = parse_options()
    if options.down_when_done:
        ending.check(os.environ, options.stack)
    stack = Stack.connect(options.stack)

    # One job description per scenario; a generator, so that a million cost no memory.
    jobs = (
        {"seed": seed, "spread": options.spread, "ensemble": options.name} for seed in range(options.jobs)
    )
    net3 = stack.submit(options.name, payload=HERE / "example", function="worker.work", jobs=jobs)

    with stack.collecting() as collecting:  # a stack that ends by itself waits until this block has ended
        follow(net3, collecting=collecting)  # interrupt it, and `cloudburst watch net3` takes it up again
        results = net3.results()
        frame = results.to_frame()
        options.out.mkdir(parents=True, exist_ok=True)
        results.to_parquet(options.out / "results.parquet")
    print_table(frame)
    done = frame[frame["state"] == "finished"]
    if len(done):
        draw_tanks(done, options.out / "tank_levels.png")
    print(f"\n{len(done)} of {len(frame)} jobs done")
    print(f"table    {options.out / 'results.parquet'} ({len(frame)} rows)")
    print(f"picture  {options.out / 'tank_levels.png'}")
    if options.down_when_done:
        ending.down(os.environ, options.stack, print)
    return 0 if len(done) == options.jobs else 1


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100, help="how many networks to simulate (100)")
    parser.add_argument("--spread", type=float, default=0.3, help="range of the diameters (0.3: ± 30 %%)")
    parser.add_argument("--name", default="net3", help="name of the ensemble (net3)")
    parser.add_argument("--stack", help="name of the stack (the local one, or $CLOUDBURST_STACK)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="directory for table and picture")
    parser.add_argument("--down-when-done", action="store_true", help="then destroy the stack (DigitalOcean)")
    return parser.parse_args()


def print_table(frame) -> None:
    """The middle and the range of what was asked for, over all networks."""
    rows = {
        "head at node 1 (m)": "head_mean",
        "pressure at node 101 (m)": "pressure_mean",
        "flow of link 101 (m³/s)": "flow_mean",
    }
    print(f"\n{'mean over the week':28}{'median':>10}{'5 %':>10}{'95 %':>10}")
    for title, column in rows.items():
        if column in frame:
            low, middle, high = frame[column].quantile([0.05, 0.5, 0.95])
            print(f"{title:28}{middle:10.3f}{low:10.3f}{high:10.3f}")


def draw_tanks(frame, path: Path) -> None:
    """The fan of tank levels: median, 50 % and 90 % bands, and a few single networks."""
    matplotlib.use("Agg")  # the picture goes to a file, no screen is needed
    import matplotlib.pyplot as plt

    tanks = sorted(frame["tank_levels"].iloc[0])
    size = (10, 2.6 * len(tanks))
    figure, axes = plt.subplots(len(tanks), 1, figsize=size, sharex=True, layout="constrained")
    for axis, tank in zip(np.atleast_1d(axes), tanks, strict=True):
        levels = np.array([levels[tank] for levels in frame["tank_levels"]])
        low, lower, middle, upper, high = np.percentile(levels, [5, 25, 50, 75, 95], axis=0)
        days = np.arange(levels.shape[1]) / 24
        axis.fill_between(days, low, high, color="#9ecae1", label="5–95 % of networks", lw=0)
        axis.fill_between(days, lower, upper, color="#4292c6", label="25–75 %", lw=0)
        axis.plot(days, levels[:5].T, color="#08306b", lw=0.4, alpha=0.5)
        axis.plot(days, middle, color="#08306b", lw=2, label="median")
        axis.set_ylabel(f"tank {tank}\nlevel (m)")
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0)
    axis.set_xlabel("day")
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"Net3: tank levels of {len(frame)} networks with uncertain pipe diameters", fontsize=14)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CloudburstError as error:
        sys.exit(f"run.py: {error}")
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; the ensemble goes on, `.venv/bin/cloudburst watch net3` shows it")
