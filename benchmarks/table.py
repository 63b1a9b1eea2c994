"""Prints what the benchmarks have measured last, from benchmarks/results/*.json, as one table."""

from __future__ import annotations

import json

import measure


def main() -> None:
    documents = [json.loads(path.read_text()) for path in sorted(measure.RESULTS.glob("*.json"))]
    print(measure.table(document for document in documents if "goals" in document))
    machines = {(d["date"], d["machine"].get("cpu", ""), d["machine"]["cpus"]) for d in documents}
    for date, cpu, cpus in sorted(machines):
        print(f"measured {date} on {cpus} CPUs {cpu}")


if __name__ == "__main__":
    main()
