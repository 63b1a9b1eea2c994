"""SWMM by pyswmm: the model is copied to where the job runs, because its results are written beside it."""

import random
import shutil
from pathlib import Path

from pyswmm import Nodes, Simulation

MODEL = Path(__file__).parent / "model.inp"


def work(params):
    model = shutil.copy(MODEL, "model.inp")
    inflow = random.uniform(0.1, 0.5)
    peak = 0.0
    with Simulation(model) as simulation:
        junction = Nodes(simulation)["J1"]
        for _ in simulation:
            junction.generated_inflow(inflow)
            peak = max(peak, junction.total_inflow)
    return {"peak": round(peak, 6), "files": sorted(path.name for path in Path().iterdir())}
