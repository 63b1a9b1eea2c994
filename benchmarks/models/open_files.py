"""Files that the module opens: its own data, read again by each job."""

import csv
import random
from pathlib import Path

TABLE = open(Path(__file__).parent / "table.csv")  # noqa: SIM115 (never closed, as models do)


def work(params):
    TABLE.seek(0)
    rows = list(csv.DictReader(TABLE))
    with open("log.txt", "a") as log:
        print(params["n"], file=log)
    return {
        "rows": len(rows),
        "depth": sum(float(row["depth"]) for row in rows),
        "picked": random.choice(rows)["name"],
        "lines": len(Path("log.txt").read_text().splitlines()),
    }
