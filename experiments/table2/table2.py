"""Table 2 of the paper on the simulated cluster: hours of every technique and system, and what does not fit.

    python3 experiments/table2/table2.py [--check] [--devices 8|4]

Every row is a plan of its system (stages of equally many layers, parallel adapters in the groups of Fig. 10), simulated for each task's
rows and epochs. One rule for the number of micro-batches: 4 for each stage (GPipe's), at most one a sample, rounded up to a divisor of
the batch, and doubled while the plan does not fit. What fits is decided with the paper's bytes of activations (Fig. 8b); what our own
bytes say, from dry runs, stands beside it.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import simulated as s  # noqa: E402

BATCH = 16


def microbatches(stages):
    wanted = min(BATCH, 4 * stages)
    return next(m for m in range(wanted, BATCH + 1) if BATCH % m == 0)


def groups_of(model, system, devices):
    fig10 = s.PAPER["fig10_device_groups"]
    return {"standalone": [1], "eco-fl": [1] * devices, "eddl": [devices], "pac": fig10[model][fig10["devices"].index(devices)]}[system]


def try_row(model, technique, groups, own, cached):
    """The first number of micro-batches of the rule that fits, or the last: (M, answer for MRPC)."""
    rows, epochs = s.TASKS["mrpc"]
    m = microbatches(len(groups))
    while True:
        a = s.simulate(model, technique, s.plan_file(model, groups, m), rows, epochs, BATCH, cached, own)
        if a["fits"] or m >= BATCH:
            return m, a
        m = min(BATCH, 2 * m)


class Row:
    def __init__(self, model, key, paper, devices, own, tasks=tuple(s.TASKS)):
        self.model, (self.technique, self.system) = model, key.split("/")
        self.paper = paper
        technique = {"parallel_adapters": "parallel"}.get(self.technique, self.technique)
        groups, cached = groups_of(model, self.system, devices), self.system == "pac"
        self.own = try_row(model, technique, groups, True, cached) if own else None
        self.m, first = try_row(model, technique, groups, False, cached)
        self.fits, self.peak, self.step = first["fits"], s.peak(first), first["hybrid_step_s"]
        self.answers = []
        if self.fits and paper[0] != "OOM":
            plan = s.plan_file(model, groups, self.m)
            for rows, epochs in (s.TASKS[t] for t in tasks):
                self.answers.append(s.simulate(model, technique, plan, rows, epochs, BATCH, cached and epochs > 1))
        self.hours = [a["total_s"] / 3600 for a in self.answers]
        published = [p for t, p in zip(s.TASKS, paper) if t in tasks]
        self.ratios = [h / p for h, p in zip(self.hours, published)]

    def agrees(self):
        return self.fits == (self.paper[0] != "OOM")

    def cells(self):
        mark = "" if self.agrees() else " (differs)"
        if self.answers:
            hours = [f"{p:g} / {h:.2f} = {r:.2f}" for p, h, r in zip(self.paper, self.hours, self.ratios)]
        else:
            hours = [f"{p} / {'fits' if self.fits else 'OOM'}{mark}" for p in self.paper]
        own = f"{s.peak(self.own[1]):.2f}{'' if self.own[1]['fits'] else ' OOM'}, M {self.own[0]}" if self.own else ""
        return [s.MODELS[self.model][0], self.technique.replace("_", " "), self.system, self.m, *hours, f"{self.peak:.2f}", own]


def contradiction():
    """Seconds a sample of PAC's first epoch, as Table 2 and as Fig. 9a have them."""
    lines = []
    for model, (title, _) in s.MODELS.items():
        hours = s.PAPER["table2_hours"][model]["parallel_adapters/pac"][3]
        table2 = hours * 3600 / s.TASKS["qnli"][0]
        fig9a = 1 / s.PAPER["fig9a_samples_per_second"][model]["pac"][3]
        lines.append([title, f"{table2:.3f}", f"{fig9a:.3f}", f"{table2 / fig9a:.2f}"])
    return s.table(["paper, seconds a sample on 8 devices", "Table 2 (QNLI)", "Fig. 9a", "ratio"], lines)


def parts(rows):
    """What the hours of PAC on MRPC consist of."""
    lines = []
    for r in (r for r in rows if r.system == "pac" and r.answers):
        a, steps = r.answers[0], -(-s.TASKS["mrpc"][0] // BATCH)
        lines.append([s.MODELS[r.model][0], f"{a['hybrid_epoch_s'] / steps:.3f}", f"{a['redistribute_s']:.0f}", f"{a['cached_epoch_s'] / steps:.3f}"])
    return s.table(["simulated, MRPC", "seconds a step, first epoch", "redistribution, s", "seconds a step, cached"], lines)


def main():
    p = s.arguments(__doc__)
    p.add_argument("--devices", type=int, default=8, choices=(2, 4, 6, 8))
    o = p.parse_args()
    found = s.PAPER["table2_hours"]
    rows = [Row(m, k, v, o.devices, not o.check) for m in s.MODELS for k, v in found[m].items()]
    tasks = [t.upper() for t in s.TASKS]
    print(f"Hours, paper / simulated = ratio; {o.devices} devices; M: micro-batches; peak: GiB of the fullest device, simulated\n")
    print(s.table(["model", "technique", "system", "M", *tasks, "peak", "peak with our bytes"], [r.cells() for r in rows]))
    print("\n" + parts(rows) + "\n\n" + contradiction())
    if not o.check:
        data = [(f"{s.MODELS[r.model][0]} {r.technique.split('_')[0]} {r.system}", [r.paper[0], r.hours[0]]) for r in rows if r.answers]
        s.bars("table2", "Table 2, MRPC", "hours", ["paper", "pac"], data)
    b = s.Bounds()
    b.at_most("rows of Table 2 whose OOM differs", sum(not r.agrees() for r in rows), 0, "rows")
    for what, mine, bound in (("other systems", False, 20), ("PAC", True, 30)):
        b.at_most(f"hours, {what}, median deviation", 100 * s.median_error([x for r in rows if (r.system == "pac") == mine for x in r.ratios]), bound)
        others = [r.ratios[0] for r in rows if (r.system == "pac") == mine and r.model != "t5-base" and r.ratios]
        b.say(f"hours, {what}, of models that nothing was calibrated with, a task a row: {100 * s.median_error(others):.3g} % in the median")
    return b.finish(o.check)


if __name__ == "__main__":
    sys.exit(main())
