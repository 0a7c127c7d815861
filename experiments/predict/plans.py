#!/usr/bin/env python3
"""Plans drawn by a fixed seed, for four ranks of unequal speed and a model of so many layers; made-up rows as long as MRPC's.

usage: plans.py rows FILE
       plans.py plans DIR COUNT LAYERS SEED QUOTA...
"""
import json
import os
import random
import sys

# Group sizes by stage, of which each twelve plans have one each: five have three stages, eight have unequal groups.
SHAPES = [[1, 3], [2, 1, 1], [3, 1], [1, 2, 1], [2, 2], [4], [1, 1, 2], [1, 1, 1, 1], [2, 1, 1], [1, 3], [1, 2, 1], [2, 2]]


def rows(path):
    """320 rows: about 53 source tokens (20 to 103), two target tokens."""
    r = random.Random(1)
    with open(path, "w") as f:
        for _ in range(320):
            n = max(20, min(103, int(r.gauss(53, 13))))
            f.write(json.dumps({"input_ids": [r.randrange(3, 32000) for _ in range(n - 1)] + [1], "labels": [r.choice([7072, 59]), 1]}) + "\n")


def cut(r, stages, layers):
    """Ends of the stages: near equal parts, two layers off at most."""
    while True:
        ends = [round(layers * (i + 1) / stages) + r.randint(-2, 2) for i in range(stages - 1)] + [layers]
        if all(b > a for a, b in zip([0] + ends, ends)):
            return ends


def plan(r, index, layers, quota):
    shape = SHAPES[index % len(SHAPES)]
    ranks, ends, at = r.sample(range(len(quota)), len(quota)), cut(r, len(shape), layers), 0
    lines = ["planner: given", f"world: {len(quota)}", f"layers: {layers}", f"microbatches: {r.choice([1, 2, 4, 4, 8])}", "stages:"]
    for size, first, last in zip(shape, [0] + ends, ends):
        group, at = ranks[at:at + size], at + size
        # equal shares in a third of the plans, else in proportion to speed, more or less
        weight = [1.0] * size if index % 3 == 0 else [quota[g] * r.uniform(0.7, 1.4) for g in group]
        shares = [w / sum(weight) for w in weight]
        lines += [f"  - layers: [{first}, {last}]", f"    ranks: {group}", f"    shares: {[round(s, 6) for s in shares]}"]
    return "\n".join(lines) + "\n"


def plans(folder, count, layers, seed, quota):
    r = random.Random(seed)
    os.makedirs(folder, exist_ok=True)
    for i in range(count):
        with open(f"{folder}/plan-{i:02d}.yaml", "w") as f:
            f.write(plan(r, i, layers, quota))


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "rows":
        rows(sys.argv[2])
    elif len(sys.argv) > 6 and sys.argv[1] == "plans":
        plans(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), [float(q) for q in sys.argv[6:]])
    else:
        sys.exit(__doc__)
