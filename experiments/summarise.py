"""Table and plot of an experiment's runs: mean and spread over the seeds, pac beside PyTorch.

    python3 experiments/summarise.py RUNS [--torch FILE...] [--plot FILE.svg] [--paper MODEL]

RUNS holds [task/]configuration/seed-N/result.json, which `pac train` leaves in its output; --torch names JSON lines of the torch_*.py
scripts. Writes a Markdown table (percent: mean +- standard deviation over n seeds) to standard output and, with gnuplot, a bar chart.
Where a task has all four techniques, it says how far parallel adapters are from the mean of the other three, as the paper's Table 3
is read. Needs Python 3.9 alone.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

METRICS = ("exact_match", "accuracy", "f1", "pearson", "spearman")
OTHERS = ("full", "adapters", "lora")
ORDER = ("none", "full", "adapters", "lora", "parallel")  # of the techniques in a table


class Runs:
    """The results of one configuration: a value for each metric and seed."""

    def __init__(self):
        self.by_seed = {}

    def add(self, seed, metrics):
        """False, and nothing counts: a run without metrics, such as one that diverged."""
        found = {name: 100 * metrics[name] for name in METRICS if isinstance(metrics.get(name), (int, float))}
        if found:
            self.by_seed[seed] = found
        return bool(found)

    def metrics(self):
        return [name for name in METRICS if any(name in m for m in self.by_seed.values())]

    def values(self, metric):
        return [m[metric] for m in self.by_seed.values() if metric in m]

    def score(self):
        """The mean over seeds of the mean of the metrics: accuracy and F1, or Pearson and Spearman, count half each."""
        return statistics.fmean(statistics.fmean(m.values()) for m in self.by_seed.values())

    def spread(self):
        scores = [statistics.fmean(m.values()) for m in self.by_seed.values()]
        return statistics.stdev(scores) if len(scores) > 1 else 0.0

    def text(self):
        parts = []
        for metric in self.metrics():
            values = self.values(metric)
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            parts.append(f"{statistics.fmean(values):.2f}{spread}")
        return " / ".join(parts) + f" ({len(self.by_seed)})"


def read_pac(folder):
    """{configuration: Runs} of the result files below a folder; runs that failed or never ended are named and left out."""
    found = {}
    for path in sorted(pathlib.Path(folder).glob("**/seed-*/result.json")):
        name = path.parent.parent.relative_to(folder).as_posix()
        try:
            metrics, seed = json.loads(path.read_text(encoding="utf-8"))["eval"], int(path.parent.name[5:])
        except (ValueError, KeyError, TypeError):
            print(f"{path}: not the result of a finished run, left out", file=sys.stderr)
            continue
        runs = found.get(name, Runs())
        if runs.add(seed, metrics):
            found[name] = runs
        else:
            print(f"{path}: a run without metrics, left out: did it diverge?", file=sys.stderr)
    return found


def name_of(record):
    """The configuration that a line of a torch_*.py script belongs to, named as run.sh names pac's."""
    name = record["technique"]
    if "reduction" in record:
        name += f"-k{record['reduction']}"
    if record.get("pairs") == "separate":
        name += "-separate"
    return f"{record['task']}/{name}" if "task" in record else name


def read_torch(files):
    found = {}
    for file in files:
        for number, line in enumerate(pathlib.Path(file).read_text(encoding="utf-8").splitlines(), 1):
            try:
                record = json.loads(line)
                found.setdefault(name_of(record), Runs()).add(record["seed"], record)
            except (ValueError, KeyError, TypeError) as error:
                sys.exit(f"{file}:{number}: not a line of a torch_*.py script: {error!r}")
    return found


def in_order(*runs):
    """Names of all configurations: task by task, pairs joined before separate, techniques as in ORDER."""

    def key(name):
        task, _, configuration = name.rpartition("/")
        technique = configuration.split("-")[0]
        place = ORDER.index(technique) if technique in ORDER else len(ORDER)
        return task, configuration.endswith("-separate"), place, configuration

    return sorted({name for r in runs for name in r}, key=key)


def table(pac, torch):
    """Markdown rows, task by task. The difference is pac's score minus PyTorch's."""
    rows = ["| configuration | metrics | pac | PyTorch | difference |", "|---|---|---|---|---|"]
    for name in in_order(pac, torch):
        ours, theirs = pac.get(name), torch.get(name)
        difference = f"{ours.score() - theirs.score():+.2f}" if ours and theirs else ""
        metrics = ", ".join((ours or theirs).metrics())
        rows.append(f"| {name} | {metrics} | {ours.text() if ours else ''} | {theirs.text() if theirs else ''} | {difference} |")
    return rows


def distance_to_others(runs):
    """Lines such as 'mrpc/parallel-k8: -6.5 points from the mean of full, adapters, lora', where all three are there."""
    lines = []
    for name in in_order(runs):
        task, _, configuration = name.rpartition("/")
        prefix = task + "/" if task else ""
        suffix = "-separate" if configuration.endswith("-separate") else ""
        others = [runs.get(prefix + other + suffix) for other in OTHERS]
        if configuration.startswith("parallel") and all(others):
            mean = statistics.fmean(other.score() for other in others)
            lines.append(f"- {name}: {runs[name].score() - mean:+.2f} points from the mean of {', '.join(OTHERS)} ({mean:.2f})")
    return lines


def plot(pac, torch, path):
    """Grouped bars with error bars by gnuplot; without gnuplot there is a message and no plot."""
    names = in_order(pac, torch)
    series = [(title, runs) for title, runs in (("pac", pac), ("PyTorch", torch)) if runs]
    # a first row with an error of 0 makes gnuplot leave out the error bars of all rows
    number = lambda runs, name: f"{runs[name].score():.3f} {max(runs[name].spread(), 1e-3):.3f}" if name in runs else "NaN NaN"
    label = lambda name: name.replace("/", "\\n").replace("-", "\\n")
    data = "\n".join(f'"{label(name)}" ' + " ".join(number(runs, name) for _, runs in series) for name in names)
    columns = ", ".join(f"$data using {2 * i + 2}:{2 * i + 3}:xtic(1) title '{title}'" for i, (title, _) in enumerate(series))
    script = f"""$data << EOD\n{data}\nEOD
set terminal svg size {max(640, 70 * len(names))},420 dynamic
set output '{path}'
set style data histograms
set style histogram errorbars gap 1 lw 1
set style fill solid 0.6 border -1
set errorbars lc rgb 'black'
set xtics font ',10'
set yrange [0:*]
set bars 0.5
set ylabel 'score (percent)'
set grid ytics
set key outside top
set bmargin 6
plot {columns}
"""
    try:
        subprocess.run(["gnuplot"], input=script, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no plot: {error}", file=sys.stderr)


def paper_rows(model, pac):
    """The paper's Table 3 for a model, and how far each configuration here is from it."""
    file = pathlib.Path(__file__).with_name("table3") / "paper.json"
    paper = json.loads(file.read_text(encoding="utf-8"))
    if model not in paper["models"]:
        sys.exit(f"{file}: no model {model}, only {', '.join(paper['models'])}")
    rows = ["| configuration | paper | here | difference |", "|---|---|---|---|"]
    for technique, values in paper["models"][model].items():
        for task, value in zip(paper["tasks"], values):
            runs = next((pac[n] for n in pac if n.startswith(f"{task}/{technique}")), None)
            here = f"{runs.score():.2f} ± {runs.spread():.2f} | {runs.score() - value:+.2f}" if runs else " | "
            rows.append(f"| {task}/{technique} | {value} | {here} |")
    return rows


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("runs")
    p.add_argument("--torch", nargs="*", default=[])
    p.add_argument("--plot")
    p.add_argument("--paper", help="experiments/table3: print the paper's row of this model beside")
    o = p.parse_args()
    pac, torch = read_pac(o.runs), read_torch(o.torch)
    if not pac and not torch:
        sys.exit(f"{o.runs}: no seed-*/result.json below it")
    print("\n".join(table(pac, torch)))
    for title, runs in (("pac", pac), ("PyTorch", torch)):
        lines = distance_to_others(runs)
        if lines:
            print(f"\nParallel adapters beside the other techniques, {title}:\n")
            print("\n".join(lines))
    if o.paper:
        print("\n" + "\n".join(paper_rows(o.paper, pac)))
    if o.plot:
        plot(pac, torch, o.plot)


if __name__ == "__main__":
    main()
