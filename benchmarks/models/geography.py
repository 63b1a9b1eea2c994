"""Projections that the module keeps, and geometry."""

import functools

import numpy as np
from pyproj import Transformer
from shapely import Point, union_all

transformer = Transformer.from_crs(4326, 32616, always_xy=True)


@functools.lru_cache
def east(n):
    return transformer.transform(-87.0 + n / 100, 40.0)[0]


def work(params):
    points = [Point(*xy).buffer(0.1) for xy in np.random.rand(10, 2)]
    return {"east": round(east(params["n"]), 3), "area": round(union_all(points).area, 9)}
