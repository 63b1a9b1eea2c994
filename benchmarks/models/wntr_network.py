"""EPANET through wntr, which writes beside where it runs."""

import functools

import numpy as np
import wntr


@functools.lru_cache
def network():
    return wntr.network.WaterNetworkModel("Net1")


def work(params):
    net = network()
    net.options.time.duration = 4 * 3600
    for name, factor in zip(net.pipe_name_list, np.random.uniform(0.7, 1.3, net.num_pipes), strict=True):
        net.get_link(name).roughness = 100 * factor
    found = wntr.sim.EpanetSimulator(net).run_sim()
    return {"pressure": round(float(found.node["pressure"]["22"].iloc[-1]), 4)}
