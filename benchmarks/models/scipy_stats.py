"""Frozen distributions at the top, and an optimizer that draws its population."""

from scipy import optimize, stats

depth = stats.gamma(2.0, scale=3.0)


def work(params):
    found = optimize.differential_evolution(lambda x: (x[0] - params["n"]) ** 2, [(0, 200)], maxiter=3)
    return {
        "rvs": stats.norm.rvs(size=3).tolist(),
        "frozen": depth.rvs(size=2).tolist(),
        "x": round(float(found.x[0]), 9),
        "multivariate": stats.multivariate_normal([0, 0]).rvs().tolist(),
    }
