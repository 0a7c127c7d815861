"""Figure 9a of the paper on the simulated cluster: samples per second of systems with parallel adapters and no cache, on 2 to 8 Nanos.

    python3 experiments/fig9/fig9.py [--check]

The mini-batch has as many samples as there are devices. Plans are the paper's: Fig. 10's groups and, as Fig. 9b shows, stages of
equally many layers; a device of the largest group works on one sample of each micro-batch. What pac plans itself stands beside.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import simulated as s  # noqa: E402

STEPS = 100


def rate(answer, devices):
    return devices / answer["hybrid_step_s"] if answer and answer["fits"] else None


def planned(model, devices):
    """By pac's own planner, simulated; None: nothing fits."""
    keys = s.options(model, "parallel", train_batch=devices, cache="none")
    words = ["--profile", s.profile(model, "parallel", devices), "--rows", STEPS * devices, "--activations", s.activations(model, "parallel")]
    return s.pac("simulate", s.RUN, *words, *keys, misfit=True)


class Cell:
    def __init__(self, model, system, i, with_plan):
        self.devices = s.PAPER["fig9a_samples_per_second"]["devices"][i]
        self.paper = s.PAPER["fig9a_samples_per_second"][model][system][i]
        self.groups = {"eddl": [self.devices], "eco-fl": [1] * self.devices, "pac": s.PAPER["fig10_device_groups"][model][i]}[system]
        m = -(-self.devices // max(self.groups))
        plan = s.plan_file(model, self.groups, m, self.devices)
        answer = s.simulate(model, "parallel", plan, STEPS * self.devices, 1, self.devices, devices=self.devices)
        self.rate = rate(answer, self.devices)
        self.peak = s.peak(answer)
        self.ratio = self.rate / self.paper if self.rate and self.paper != "OOM" else None
        own = planned(model, self.devices) if with_plan and system == "pac" else None
        self.own = f"{rate(own, self.devices):.2f} ({own['plan']['shape']})" if own and own["fits"] else ""

    def agrees(self):
        return (self.rate is None) == (self.paper == "OOM")

    def cells(self, model, system):
        simulated = f"{self.rate:.2f}" if self.rate else "OOM"
        ratio = f"{self.ratio:.2f}" if self.ratio else ("" if self.agrees() else "differs")
        return [s.MODELS[model][0], system, self.devices, s.shape(self.groups), self.paper, simulated, ratio, f"{self.peak:.2f}", self.own]


def main():
    o = s.arguments(__doc__).parse_args()
    found = s.PAPER["fig9a_samples_per_second"]
    cells = {(m, y, i): Cell(m, y, i, not o.check) for m in s.MODELS for y in found[m] for i in range(len(found["devices"]))}
    head = ["model", "system", "devices", "groups", "paper", "simulated", "ratio", "peak, GiB", "as pac plans, simulated"]
    print("Samples a second\n\n" + s.table(head, [c.cells(m, y) for (m, y, _), c in cells.items()]))
    if not o.check:
        number = lambda v: None if v == "OOM" else v
        data = [(f"{s.MODELS[m][0]} x{c.devices}", [number(c.paper), c.rate, number(cells[m, "eco-fl", i].paper), cells[m, "eco-fl", i].rate])
                for (m, y, i), c in cells.items() if y == "pac"]  # fmt: skip
        s.bars("fig9", "Fig. 9a", "samples/s", ["paper, PAC", "pac, PAC", "paper, Eco-FL", "pac, Eco-FL"], data)
    b = s.Bounds()
    b.at_most("PAC's rates, median deviation", 100 * s.median_error([c.ratio for (_, y, _), c in cells.items() if y == "pac" and c.ratio]), 15)
    others = [c.ratio for (m, y, _), c in cells.items() if y == "pac" and c.ratio and m != "t5-base"]
    b.say(f"PAC's rates of models that nothing was calibrated with: {100 * s.median_error(others):.3g} % in the median")
    b.at_most("cells whose OOM differs", sum(not c.agrees() for c in cells.values()), 0, "cells")
    return b.finish(o.check)


if __name__ == "__main__":
    sys.exit(main())
