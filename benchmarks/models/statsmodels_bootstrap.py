"""A regression, simulated and resampled."""

import numpy as np
import statsmodels.api as sm

process = sm.tsa.ArmaProcess([1, -0.5], [1, 0.3])


def work(params):
    series = process.generate_sample(60) + params["n"]
    fit = sm.OLS(series[1:], sm.add_constant(series[:-1])).fit()
    resampled = np.random.choice(series, 60)
    return {"slope": round(float(fit.params[1]), 9), "mean": round(float(resampled.mean()), 9)}
