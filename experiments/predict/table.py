#!/usr/bin/env python3
"""The table of predicted and measured steps and bytes from the result.json and metrics.jsonl of each run.

usage: table.py RUN_DIR...
"""
import json
import statistics
import sys

SKIPPED = 2  # first steps: pages are touched, arenas grow


def steps(run):
    with open(f"{run}/metrics.jsonl") as f:
        lines = [json.loads(line) for line in f]
    return [x["seconds"] for x in lines if x["event"] == "step" and x["phase"] == "hybrid"][SKIPPED:]


def shape(plan):
    return "-".join(str(len(s["ranks"])) for s in plan["stages"]), ",".join(str(s["layers"][1]) for s in plan["stages"])


def predicted_bytes(run):
    """By rank, from the plan that the run wrote: the dry run's bytes."""
    bytes_of, ranks = {}, []
    with open(f"{run}/plan.yaml") as f:
        for line in f:
            key, _, values = line.strip().removeprefix("- ").partition(":")
            if key == "ranks":
                ranks = [int(x) for x in values.split("#")[0].strip(" []\n").split(",")]
            elif key == "bytes":
                bytes_of.update(zip(ranks, [float(x) for x in values.split("#")[0].strip(" []\n").split(",")]))
    return bytes_of


def memory(run):
    """Predicted bytes over the ledger's peak in the hybrid phase: the lowest and the highest ratio of a rank."""
    predicted = predicted_bytes(run)
    with open(f"{run}/metrics.jsonl") as f:
        lines = [json.loads(line) for line in f]
    ratio = [predicted[x["rank"]] / x["ledger"] for x in lines if x["event"] == "memory" and x["phase"] == "hybrid"]
    return min(ratio), max(ratio)


def row(run):
    with open(f"{run}/result.json") as f:
        result = json.load(f)
    with open(f"{run}/simulated.json") as f:
        simulated = json.load(f)["hybrid_step_s"]
    predicted, measured = result["predicted"]["hybrid_step_s"], steps(run)
    groups, cuts = shape(result["plan"])
    low, high = memory(run)
    median = statistics.median(measured)
    return {"run": run.split("/")[-1], "groups": groups, "cuts": cuts, "M": result["plan"]["microbatches"], "predicted": predicted,
            "measured": median, "spread": max(measured) / min(measured), "error": predicted / median - 1, "simulated": simulated, "off": simulated / median - 1,
            "low": low, "high": high}


def main(runs):
    rows = [row(r) for r in runs]
    print("| plan | groups | layers end at | M | measured s | slowest / fastest | predicted s | error | simulated s | error | predicted / measured bytes |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for x in rows:
        print(f"| {x['run']} | {x['groups']} | {x['cuts']} | {x['M']} | {x['measured']:.3f} | {x['spread']:.2f} | {x['predicted']:.3f} "
              f"| {100 * x['error']:+.1f} % | {x['simulated']:.3f} | {100 * x['off']:+.1f} % | {x['low']:.3f} to {x['high']:.3f} |")
    print()
    for key, who in ("error", "cost model"), ("off", "simulator"):
        errors = [abs(x[key]) for x in rows]
        print(f"{who}, {len(rows)} plans: median error {100 * statistics.median(errors):.1f} %, worst {100 * max(errors):.1f} %")
    print(f"predicted over measured bytes: {min(x['low'] for x in rows):.3f} to {max(x['high'] for x in rows):.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
