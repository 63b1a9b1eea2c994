"""Symbols and a cache that grows with every job, beside a bar that shows it."""

import random

import sympy
from tqdm import tqdm

x = sympy.Symbol("x", positive=True)


def work(params):
    equation = sympy.Eq(x**2 + params["n"] * x, params["n"] + 1)
    for term in tqdm(range(20)):
        equation.subs(x, term)
    return {
        "roots": [str(root) for root in sympy.solve(equation, x)],
        "integral": str(sympy.integrate(sympy.sin(params["n"] * x), x)),
        "matrix": str(sympy.Matrix(2, 2, lambda i, j: random.randint(1, 9)).det()),
    }
