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
    sys.path[0] = inside_parent
    seeds = importlib.import_module("inside.seeds")
    giver = seeds.Seeds(importlib.import_module("inside.payload").Payload(payload))
    sys.path[0] = payload
    os.environ["CLOUDBURST_INDEX"] = str(index)
    os.environ["CLOUDBURST_SEED"] = str(seeds.numbered(seed, index))
    model = importlib.import_module("worker")
    giver.before(seed, index)
    value = model.work({"n": index})
    with open(os.environ["ANSWER"], "w") as answer:
        json.dump(value, answer)


if __name__ == "__main__":
    main()
