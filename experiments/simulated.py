"""What the experiments with the paper's cluster share: profiles, plans and simulations by `pac`, tables, plots and bounds.

Nothing here is measured: every second and every byte that `pac` answers here is simulated, and what is printed says so. Needs Python
3.9 alone, and gnuplot for plots. PAC names another program than build/pac, WORK another folder than runs/paper for what is written.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
RUN = ROOT / "experiments" / "paper" / "run.yaml"
CLUSTER = ROOT / "experiments" / "clusters" / "paper-nano8.yaml"
WORK = pathlib.Path(os.environ.get("WORK", ROOT / "runs" / "paper")).resolve() / pathlib.Path(sys.argv[0]).stem
PAPER = json.loads((ROOT / "experiments" / "paper" / "paper.json").read_text(encoding="utf-8"))
MODELS = {"t5-base": ("T5-Base", 24), "bart-large": ("BART-Large", 24), "t5-large": ("T5-Large", 48)}  # title, layers
TASKS = {"mrpc": (3668, 3), "sts-b": (5749, 3), "sst-2": (66349, 1), "qnli": (104743, 1)}  # training rows, epochs
PAPER_NAMES = {"parallel": "parallel_adapters"}
GIB = 2**30
PROFILES = {}  # derived by this program: (model, technique, devices): file
MISFIT = 4  # exit status of pac where memory or a disk is lacking


# ---- pac ----


def pac(*args, misfit=False):
    """The JSON object of a command; with misfit None where it says only that memory is lacking. Other failures, a full disk too, end the program."""
    program = os.environ.get("PAC", str(ROOT / "build" / "pac"))
    words = [str(a) for a in args]
    done = subprocess.run([program, *words, "--json"], cwd=ROOT, text=True, capture_output=True, check=False)
    lacking = done.returncode == MISFIT and "pac: error: memory: " in done.stderr
    if done.returncode == 0 or (misfit and lacking):
        return json.loads(done.stdout) if done.stdout.strip() else None
    return sys.exit(f"{program} {' '.join(words)}\n{done.stderr.strip()}")


def changed(text, old, new, where):
    """Every `old` of the text replaced; a text without any ends the program, since what follows would be of something else."""
    return text.replace(old, new) if old in text else sys.exit(f"{where}: no '{old}' to replace")


def options(model, technique, **keys):
    """--set ... for run.yaml; train_batch=8 is train.batch=8."""
    sets = [f"model.path=shape:{model}", f"technique.name={technique}"]
    sets += [f"{key.replace('_', '.', 1)}={value}" for key, value in keys.items()]
    return [word for text in sets for word in ("--set", text)]


def cluster(devices):
    """The cluster file with so many Nanos."""
    path = WORK / f"nano{devices}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(changed(CLUSTER.read_text(encoding="utf-8"), "count: 8", f"count: {devices}", CLUSTER), encoding="utf-8")
    return path


def profile(model, technique, devices=8):
    """The profile of the cluster, derived once."""
    key = (model, technique, devices)
    if key not in PROFILES:
        path = WORK / f"profile-{model}-{technique}-{devices}.yaml"
        pac("profile", RUN, "--devices", cluster(devices), "-o", path, *options(model, technique, train_epochs=2))
        PROFILES[key] = path
    return PROFILES[key]


def activations(model, technique):
    """The paper's bytes of activations of a sample: Fig. 8b shows an eighth of the layers with 16 samples."""
    bar = PAPER["fig8b_gib_per_device"][model][PAPER_NAMES.get(technique, technique)]
    return round(bar[1] * GIB * 8 / 16)


def plan_file(model, groups, microbatches, devices=8):
    """A plan of given groups whose stages have equally many layers, as the paper's Fig. 9b shows them; returns its path."""
    layers = MODELS[model][1]
    cuts = [round(layers * i / len(groups)) for i in range(len(groups) + 1)]
    ranks = [sum(groups[:i]) for i in range(len(groups) + 1)]
    lines = ["planner: given", f"world: {devices}", f"layers: {layers}", f"microbatches: {microbatches}", "stages:"]
    for i in range(len(groups)):
        members = ", ".join(str(r) for r in range(ranks[i], ranks[i + 1]))
        lines.append(f"  - {{layers: [{cuts[i]}, {cuts[i + 1]}], ranks: [{members}]}}")
    if ranks[-1] < devices:
        lines.append(f"left_out: [{', '.join(str(r) for r in range(ranks[-1], devices))}]")
    path = WORK / "plan.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def simulate(model, technique, plan, rows, epochs=1, batch=16, cached=False, own=False, devices=8):
    """A run of `rows` training rows. own: bytes by a dry run of pac, else with the paper's activations."""
    keys = {"train_batch": batch, "train_epochs": epochs}
    if not cached:
        keys["cache"] = "none"
    words = [] if own else ["--activations", activations(model, technique)]
    answer = pac("simulate", RUN, "--profile", profile(model, technique, devices), "--plan", plan, "--rows", rows, *words,
                 *options(model, technique, **keys), misfit=True)  # fmt: skip
    return answer if answer is not None else sys.exit(f"pac simulate {plan}: no answer")


def peak(answer):
    """GiB of the device that needs most."""
    return max(d["peak_bytes"] for d in answer["devices"]) / GIB


# ---- results ----


def median_error(ratios):
    """Median of |ratio - 1|."""
    return statistics.median(abs(r - 1) for r in ratios)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def shape(groups):
    return "-".join(str(g) for g in groups)


def bars(name, title, unit, series, data):
    """Grouped bars: data is [(label, [value or None for each of series])]; without gnuplot there is a message and no plot."""
    number = lambda v: "NaN" if v is None else f"{v:.6g}"
    rows = "\n".join('"' + label.replace(" ", "\\n") + '" ' + " ".join(number(v) for v in values) for label, values in data)
    columns = ", ".join(f"$data using {i + 2}:xtic(1) title '{s}'" for i, s in enumerate(series))
    script = f"""$data << EOD\n{rows}\nEOD
set terminal svg size {max(720, 70 * len(data))},460 dynamic
set output '{WORK / name}.svg'
set title '{title} (paper: published; pac: simulated, not measured)'
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.6 border -1
set xtics font ',9'
set bmargin 5
set ylabel '{unit}'
set yrange [0:*]
set grid ytics
set key outside top
plot {columns}
"""
    WORK.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["gnuplot"], input=script, text=True, check=True)
        print(f"\nplot: {WORK / name}.svg")
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no plot: {error}", file=sys.stderr)


class Bounds:
    """What an experiment promises, and whether it holds."""

    def __init__(self):
        self.failed = 0
        self.lines = []

    def at_most(self, what, value, bound, unit="%"):
        held = value <= bound
        self.failed += not held
        self.lines.append(f"- {what}: {value:.3g} {unit} (bound {bound:g}): {'holds' if held else 'DOES NOT HOLD'}")

    def say(self, text):
        """A figure beside a bound that has none of its own."""
        self.lines.append(f"  ({text})")

    def finish(self, check):
        print("\n" + "\n".join(self.lines))
        return 1 if check and self.failed else 0


def arguments(text):
    p = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--check", action="store_true", help="no plots and no dry runs; exit status 1 if a bound does not hold")
    return p
