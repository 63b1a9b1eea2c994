"""A fit with a basin hopper."""

import lmfit
import numpy as np

model = lmfit.models.ExponentialModel()
times = np.linspace(0, 5, 40)


def work(params):
    data = (3 + params["n"] / 100) * np.exp(-times / 2) + np.random.normal(0, 0.05, 40)
    fit = model.fit(data, x=times, amplitude=1, decay=1)
    return {name: round(parameter.value, 6) for name, parameter in fit.params.items()}
