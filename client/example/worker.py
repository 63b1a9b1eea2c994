"""How sensitive is EPANET's network Net3 to what its pipes are really like inside?

Pipes corrode and scale up, so nobody knows their diameters. Each job multiplies every diameter by a
random number of its own, simulates a week of operation and returns how high the tanks stood.
A job description is ``{"seed": 7}``, perhaps with ``"spread": 0.3`` (± 30 %) and ``"ensemble": "net3"``.
"""

import os

import numpy as np
import wntr
from influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS

MONDAY = 1_704_067_200  # 2024-01-01 in Unix time: some start, as the model has no calendar


def work(params):
    """Run one job: perturb, simulate, write the time series, return a summary."""
    network = wntr.network.WaterNetworkModel("Net3")
    perturb_diameters(network, params["seed"], params.get("spread", 0.3))
    results = wntr.sim.EpanetSimulator(network).run_sim()

    series = {  # one value per hour, index: seconds since the start
        "head": results.node["head"]["1"],  # m
        "pressure": results.node["pressure"]["101"],  # m
        "flow": results.link["flowrate"]["101"],  # m³/s
    }
    write_points(series, params["seed"], params.get("ensemble", "net3"))
    return summary(series) | {"tank_levels": tank_levels(network, results)}


def perturb_diameters(network, seed, spread):
    """Multiply each pipe's diameter by a uniform random number from 1 - spread to 1 + spread."""
    factors = np.random.default_rng(seed).uniform(1 - spread, 1 + spread, network.num_pipes)
    for (_, pipe), factor in zip(network.pipes(), factors, strict=True):
        pipe.diameter *= factor


def summary(series):
    """The range of each series: {"head_min": ..., "head_mean": ..., "head_max": ..., ...}."""
    return {
        f"{name}_{kind}": round(float(getattr(values, kind)()), 4)
        for name, values in series.items()
        for kind in ("min", "mean", "max")
    }


def tank_levels(network, results):
    """Hourly level of each tank in metres: {"1": [3.993, ...], "2": ...}."""
    levels = results.node["pressure"][network.tank_name_list]
    return {tank: [round(float(level), 3) for level in levels[tank]] for tank in levels}


def write_points(series, seed, ensemble):
    """Write a measurement per series to InfluxDB, where there is one.

    A tag per job would ruin the database. Instead the seed is a field, and shifts the time by as many
    microseconds: the points of two jobs never meet, and a job that runs again overwrites its own.
    """
    if not os.environ.get("INFLUX_URL"):
        return
    lines = [
        f"{name},ensemble={ensemble} value={value:.6g},seed={seed}i {(MONDAY + second) * 1_000_000 + seed}"
        for name, values in series.items()
        for second, value in values.items()
    ]
    login = {key: os.environ[f"INFLUX_{key.upper()}"] for key in ("url", "token", "org")}
    with InfluxDBClient(**login) as client, client.write_api(write_options=SYNCHRONOUS) as points:
        points.write(os.environ["INFLUX_BUCKET"], record=lines, write_precision="us")
