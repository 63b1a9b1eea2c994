"""Runs one job of a model as a plain script would, in a process of its own; what it returned goes to $ANSWER.

``python models_alone.py PAYLOAD_DIR INSIDE_PARENT SEED INDEX``, in an empty directory. INSIDE_PARENT holds
the package ``inside``, whose ``seeds`` gives a job its random numbers; nothing else of CloudBurst takes part.
"""

import importlib
import json
import os
import sys


def main() -> None:
    payload, inside_parent, seed, index = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    os.environ["CLOUDBURST_INDEX"] = str(index)
    sys.path[0] = payload
    give_numbers(inside_parent, payload, seed, index)  # the top of the module may draw some
    model = importlib.import_module("worker")
    give_numbers(inside_parent, payload, seed, index)
    value = model.work({"n": index})
    with open(os.environ["ANSWER"], "w") as answer:
        json.dump(value, answer)


def give_numbers(inside_parent: str, payload: str, seed: int, index: int) -> None:
    """Seed this process as that job's."""
    if not os.path.exists(os.path.join(inside_parent, "inside", "seeds.py")):
        os.environ["CLOUDBURST_SEED"] = str(seed + index)
        return
    sys.path.append(inside_parent)
    seeds = importlib.import_module("inside.seeds")
    sys.path.remove(inside_parent)
    raise NotImplementedError(seeds, payload)


if __name__ == "__main__":
    main()
