"""The table and the plot of results.jsonl, with what is expected beside what was measured. Nothing is measured here."""

import json
import statistics
import subprocess
import sys

TITLES = {"forward": "forward", "full": "full", "adapters": "adapters", "lora": "LoRA", "hybrid": "parallel, hybrid", "cached": "parallel, cached"}
# pac's variant, dtype; PyTorch's variant, dtype; how many times as fast (T5-Base, two cores; the cached ones of other models within 15 %)
SPEED = (
    ("forward", "f32", "forward", "f32", 1.2),
    ("full", "f32", "full", "f32", 1.1),
    ("adapters", "f32", "adapters", "f32", 1.2),
    ("lora", "f32", "lora", "f32", 1.2),
    ("hybrid", "f32", "hybrid", "f32", 1.4),
    ("hybrid", "f32", "lora", "f32", 2.4),
    ("cached", "f32", "cached", "f32", 3.0),
    ("cached", "f32", "lora", "f32", 25.0),
    ("hybrid", "bf16", "hybrid", "bf16", 2.5),
    ("hybrid", "bf16", "hybrid", "f32", None),
    ("forward", "bf16", "forward", "bf16", None),
    ("cached", "bf16", "cached", "bf16", None),
)
# the same of the peak of the resident size: at most this part
MEMORY = (
    ("full", "full", 0.60),
    ("adapters", "adapters", 0.60),
    ("lora", "lora", 0.60),
    ("hybrid", "hybrid", 0.45),
    ("cached", "full", 0.08),
)


def read(path):
    if not path.exists():
        return []
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.strip()]


class Cell:
    """All processes of one side, variant and dtype."""

    def __init__(self, lines):
        self.lines = [line for line in lines if "seconds" in line]
        self.absent = bool(lines) and not self.lines
        self.steps = [s for line in self.lines for s in line["seconds"]]

    def __bool__(self):
        return bool(self.steps)

    def median(self):
        return statistics.median(self.steps)

    def cpu(self):
        return statistics.median(s for line in self.lines for s in line["cpu"])

    def most(self, field):
        return max(line.get(field, 0) for line in self.lines)

    def text(self):
        if not self:
            return "not built" if self.absent else ""
        return f"{self.median():.3f} ({min(self.steps):.3f} to {max(self.steps):.3f})"


def cells(lines):
    keys = {(line["side"], line.get("variant"), line.get("dtype")) for line in lines}
    return {key: Cell([line for line in lines if (line["side"], line.get("variant"), line.get("dtype")) == key]) for key in keys}


def paired(lines, a, b):
    """Ratio of the medians of each repeat that has both: [b's seconds / a's]."""
    ratios = []
    for repeat in sorted({line["repeat"] for line in lines}):
        of = lambda key: [line for line in lines if (line["side"], line.get("variant"), line.get("dtype"), line["repeat"]) == (*key, repeat) and "seconds" in line]
        if of(a) and of(b):
            ratios.append(statistics.median(of(b)[0]["seconds"]) / statistics.median(of(a)[0]["seconds"]))
    return ratios


def mib(x):
    return f"{x / 2**20:.0f}" if x else ""


def step_rows(found, sgemm):
    print("| step | backbone | pac s (min to max) | PyTorch s (min to max) | PyTorch / pac | GFLOP | of sgemm | cpu s: pac, PyTorch | peak MiB: pac (PSS), PyTorch |")
    print("|---|---|---|---|---|---|---|---|---|")
    empty = Cell([])
    for dtype in ("f32", "bf16"):
        for variant, title in TITLES.items():
            p, t = found.get(("pac", variant, dtype), empty), found.get(("torch", variant, dtype), empty)
            if not p and not t:
                continue
            flop = p.most("flop") if p else 0
            ratio = f"{t.median() / p.median():.2f}" if p and t else ""
            rate = f"{100 * flop / p.median() / sgemm:.0f} %" if p and flop and sgemm else ""
            used = ", ".join(f"{c.cpu():.2f}" if c else "" for c in (p, t))
            memory = f"{mib(p.most('peak_rss'))} ({mib(p.most('pss'))}), " if p else ", "
            memory += mib(t.most("peak_rss")) if t else ""
            print(f"| {title} | {dtype} | {p.text()} | {t.text()} | {ratio} | {flop / 1e9:.0f} | {rate} | {used} | {memory} |")


def verdict(reached, wanted, more):
    if wanted is None:
        return ""
    return "yes" if (reached >= wanted) == more or reached == wanted else "**no**"


def goal_of(wanted, variant, model):
    """What is expected is expected of T5-Base; of other models the cached ratios, within 15 %."""
    if model == "t5-base" or wanted is None:
        return wanted
    return wanted * 0.85 if variant == "cached" else None


def target_rows(found, lines, model):
    print("\n| expected | at least | measured (each repeat) | holds |\n|---|---|---|---|")
    for a, ad, b, bd, wanted in SPEED:
        if not found.get(("pac", a, ad)) or not found.get(("torch", b, bd)):
            continue
        ratios = paired(lines, ("pac", a, ad), ("torch", b, bd))
        if not ratios:
            continue
        goal = goal_of(wanted, a, model)
        reached, each = statistics.median(ratios), ", ".join(f"{r:.2f}" for r in ratios)
        asked = "" if goal is None else f"{goal:.2f}"
        print(f"| {TITLES[a]} {ad}: PyTorch's {TITLES[b]} {bd} / pac | {asked} | {reached:.2f} ({each}) | {verdict(reached, goal, True)} |")
    print("\n| peak resident size | at most | measured | holds |\n|---|---|---|---|")
    for a, b, wanted in MEMORY:
        p, t = found.get(("pac", a, "f32")), found.get(("torch", b, "f32"))
        if p and t:
            part = p.most("peak_rss") / t.most("peak_rss")
            goal = wanted if model == "t5-base" else None
            asked = "" if goal is None else f"{100 * goal:.0f} %"
            print(f"| {TITLES[a]}: of PyTorch's {TITLES[b]} | {asked} | {100 * part:.1f} % | {verdict(part, goal, False)} |")


def products(lines, sgemm):
    """Products of the forward pass beside sgemm."""
    for line in lines:
        if line["side"] == "pac" and line.get("gemm") and sgemm and line["dtype"] == "f32":  # those of bf16 are not the backend's
            rate = line["gemm_flop"] / statistics.median(line["gemm"])
            part = statistics.median(line["gemm"]) / statistics.median(line["seconds"])
            yield line["dtype"], rate, part


def cold_rows(lines):
    """Cached epochs from cold files: seconds over the larger of the warm epoch and bytes / the disk's rate."""
    mine = [line for line in lines if line.get("variant") == "cold" and "cold" in line]
    if not mine:
        return
    print("\n| cached epoch | cold s | warm s | bytes / disk rate | ratio to the larger | expected |\n|---|---|---|---|---|---|")
    for line in mine:
        reads = line["bytes"] / line["disk"]
        print(f"| {line['dtype']}, {line['bytes_per_sample'] / 1e6:.2f} MB a sample | {line['cold']:.2f} | {line['warm']:.2f} | "
              f"{line['bytes'] / 1e6:.0f} MB at {line['disk'] / 1e6:.0f} MB/s: {reads:.2f} s | {line['cold'] / max(line['warm'], reads):.2f} | at most 1.15 |")


def rank_rows(lines):
    mine = [line for line in lines if line.get("variant") == "ranks" and "hybrid_one" in line]
    if not mine:
        return
    print("\n| two ranks of one thread | one s | two s | times (each repeat) | expected |\n|---|---|---|---|---|")
    for phase, title, wanted in (("hybrid", "hybrid, plan [1-1], 8 micro-batches", 1.5), ("cached", "cached", 1.8)):
        for dtype in sorted({line["dtype"] for line in mine}, reverse=True):
            same = [line for line in mine if line["dtype"] == dtype]
            one, two = (statistics.median(line[f"{phase}_{n}"] for line in same) for n in ("one", "two"))
            each = ", ".join(f"{line[phase + '_one'] / line[phase + '_two']:.2f}" for line in same)
            print(f"| {title}, {dtype} | {one:.3f} | {two:.3f} | {one / two:.2f} ({each}) | {wanted} |")


def heading(lines, model, sgemm):
    shape = lines[0]
    limits = [line for line in lines if line["side"] == "limits"]
    versions = next((line["versions"] for line in lines if "peft" in line.get("versions", {})), {})
    print(f"{model}, batch {shape['batch']}, {shape['source']} source and {shape['target']} target tokens, {shape['threads']} threads, SGD, random weights; "
          f"{lines[-1]['time'][:10]}" + (f"; torch {versions['torch']}, transformers {versions['transformers']}, peft {versions['peft']}" if versions else ""))
    if limits:
        best = lambda name: max(line[name] for line in limits)
        print(f"Limits in the same run: sgemm {sgemm / 1e9:.0f} GFLOP/s (OpenBLAS's threads), triad {best('triad') / 1e9:.1f} GB/s, disk written {best('disk_write') / 1e6:.0f} MB/s, "
              f"read {best('disk_read') / 1e6:.0f} MB/s, from the page cache {best('page_cache_read') / 1e9:.1f} GB/s.")
    others = [line["others"] for line in lines if "others" in line]
    if others and max(others) > 0.1:
        print(f"**Shared machine:** other programs took {statistics.median(others):.2f} cores (median; at most {max(others):.2f}) while this was measured.")
    print()


def show(lines, model, directory):
    if not lines:
        return
    limits = [line["sgemm"] for line in lines if line["side"] == "limits"]
    sgemm = max(limits) if limits else 0
    found = cells(lines)
    heading(lines, model, sgemm)
    step_rows(found, sgemm)
    target_rows(found, lines, model)
    cold_rows(lines)
    rank_rows(lines)
    rates = list(products(lines, sgemm))
    for dtype in ("f32", "bf16"):
        mine = [(rate, part) for d, rate, part in rates if d == dtype]
        if mine:
            rate, part = statistics.median(r for r, _ in mine), statistics.median(p for _, p in mine)
            print(f"\nProducts of the {dtype} forward: {rate / 1e9:.0f} GFLOP/s, {100 * rate / sgemm:.0f} % of sgemm (expected in f32: 85 %), {100 * part:.0f} % of its time.")
    plot(found, directory / f"{model}.svg")


def plot(found, path):
    """Bars of seconds, logarithmic, by gnuplot; without gnuplot there is a message and no plot."""
    shown = [(v, d) for d in ("f32", "bf16") for v in TITLES if found.get(("pac", v, d)) or found.get(("torch", v, d))]
    number = lambda side, key: f"{found[(side, *key)].median():.4f}" if found.get((side, *key)) else "NaN"
    data = "\n".join(f'"{TITLES[v]}\\n{d}" {number("pac", (v, d))} {number("torch", (v, d))}' for v, d in shown)
    script = f"""$data << EOD\n{data}\nEOD
set terminal svg size {max(640, 90 * len(shown))},420 dynamic
set output '{path}'
set style data histograms
set style histogram gap 1
set style fill solid 0.6 border -1
set logscale y
set ylabel 'seconds of a step'
set grid ytics
set key outside top
set bmargin 5
plot $data using 2:xtic(1) title 'pac', $data using 3 title 'PyTorch, transformers, PEFT'
"""
    try:
        subprocess.run(["gnuplot"], input=script, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no plot: {error}", file=sys.stderr)
