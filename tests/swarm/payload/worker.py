"""Jobs that take as long as they are told, on whichever node."""

import time


def work(params):
    time.sleep(params["s"])
    return {"n": params["n"]}
