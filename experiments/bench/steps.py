"""Steps of pac beside PyTorch's: measures what is missing in the output directory, then prints the table. run.sh starts it.

Every measurement is a process of its own, pac's and PyTorch's by turns on the same cores, and one line of results.jsonl; a line that
is there is not measured again. Needs Python 3.9 alone; PyTorch runs in another Python (--python).
"""

import argparse
import datetime
import json
import os
import pathlib
import random
import resource
import subprocess
import sys
import time

import phases
import table

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WARMUP = 2
ALL = ("forward", "full", "adapters", "lora", "hybrid", "cached", "cold", "ranks")
TECHNIQUES = {
    "forward": ["technique.name=parallel", "technique.init=random"],
    "full": ["technique.name=full"],
    "adapters": ["technique.name=adapters"],
    "lora": ["technique.name=lora", "technique.rank=32", "technique.alpha=32"],
    "hybrid": ["technique.name=parallel", "technique.reduction=8", "technique.merge=none", "technique.init=random"],
}


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("directory", nargs="?", default="runs/bench", type=pathlib.Path)
    p.add_argument("--model", default="t5-base", help="t5-small, t5-base, t5-large, bart-large (default t5-base)")
    p.add_argument("--variants", default=",".join(ALL), help="of " + ", ".join(ALL))
    p.add_argument("--dtypes", default="f32,bf16", help="of the frozen backbone: f32, bf16")
    p.add_argument("--sides", default="pac,torch")
    p.add_argument("--repeats", type=int, default=3, help="processes of each variant and side")
    p.add_argument("--steps", type=int, default=5, help="measured steps of a process, after 2 that are not")
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--source", type=int, default=128)
    p.add_argument("--target", type=int, default=1)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--cache", default="f32", help="cache.dtype of the hybrid and cached steps of pac with an f32 backbone; with bf16 it is bf16")
    p.add_argument("--python", default=os.environ.get("PYTHON", "python3"), help="one with torch, transformers and peft")
    p.add_argument("--build", default=os.environ.get("BUILD", str(ROOT / "build")), type=pathlib.Path)
    p.add_argument("--seconds", type=float, default=1e9, help="begin no measurement after so many; run again to go on")
    p.add_argument("--table", action="store_true", help="measure nothing")
    return p.parse_args()


# ---- what is run ----


def busy_seconds():
    """Processor seconds that this machine has spent on anything."""
    with open("/proc/stat", encoding="ascii") as stat:
        user, nice, system, _, _, irq, soft, steal = (int(x) for x in stat.readline().split()[1:9])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def command(words, cores):
    """(standard output, cores that others took meanwhile); None for a command that says it is not built."""
    start, busy, own = time.monotonic(), busy_seconds(), own_seconds()
    done = subprocess.run([str(w) for w in words], cwd=ROOT, text=True, capture_output=True, check=False,
                          preexec_fn=lambda: os.sched_setaffinity(0, cores))
    taken = (busy_seconds() - busy - own_seconds() + own) / (time.monotonic() - start)
    if done.returncode != 0 and "not built" in done.stderr:
        return None, taken
    if done.returncode != 0:
        sys.exit(f"{' '.join(str(w) for w in words)}\n{done.stderr.strip()[-2000:]}")
    return done.stdout, max(0.0, round(taken, 2))


class Bench:
    def __init__(self, given):
        self.o = given
        self.dir = (ROOT / given.directory).resolve()
        self.dir.mkdir(parents=True, exist_ok=True)
        self.file = self.dir / "results.jsonl"
        self.cores = set(sorted(os.sched_getaffinity(0))[: given.threads])
        self.lines = table.read(self.file)
        self.started = time.monotonic()

    def command(self, words, cores=None):
        return command(words, cores or self.cores)

    def clear(self, folder):
        """A cache that a run kept, and nothing else."""
        for path in folder.glob("*.h5") if folder.is_dir() else ():
            path.unlink()

    def shape(self):
        return {"model": self.o.model, "batch": self.o.batch, "source": self.o.source, "target": self.o.target, "threads": self.o.threads}

    def add(self, line):
        line = {**self.shape(), **line, "time": datetime.datetime.now().isoformat(timespec="seconds")}
        self.lines.append(line)
        with open(self.file, "a", encoding="utf-8") as f:
            f.write(json.dumps(line) + "\n")

    def has(self, **what):
        wanted = {**self.shape(), **what}
        return any(all(line.get(k) == v for k, v in wanted.items()) for line in self.lines)

    # ---- pac ----

    def rows(self):
        """Rows of an epoch of 2 + steps mini-batches."""
        n = self.o.batch * (WARMUP + self.o.steps)
        path = self.dir / f"rows-{n}-{self.o.source}-{self.o.target}.jsonl"
        if not path.exists():
            draw = random.Random(1)
            ids = lambda count: [draw.randrange(5, 30000) for _ in range(count)]
            text = "".join(json.dumps({"input_ids": ids(self.o.source), "labels": ids(self.o.target)}) + "\n" for _ in range(n))
            path.write_text(text, encoding="utf-8")
        return path

    def config(self, variant, dtype):
        """RUN.yaml and its overrides."""
        model = self.dir / self.o.model
        if not (model / "model.safetensors").exists():
            subprocess.run([self.o.build / "pac", "init-model", self.o.model, model, "--seed", "1"], check=True, stdout=subprocess.DEVNULL)
        path = self.dir / f"{self.o.model}-{variant}-{dtype}.yaml"
        sets = [f"model.path={model}", f"model.dtype={dtype}", f"task.train={self.rows()}", f"task.max_source={self.o.source}",
                f"task.max_target={self.o.target}", f"train.batch={self.o.batch}", f"output={self.dir / 'run'}", *TECHNIQUES[variant]]
        if variant == "hybrid":
            sets += ["train.epochs=2", f"cache.dir={self.dir / 'cache'}", f"cache.dtype={self.o.cache if dtype == 'f32' else dtype}"]
        else:
            sets += ["train.epochs=1", "cache=none"]
        tree = {}
        for text in sets:
            key, value = text.split("=", 1)
            part, _, name = key.partition(".")
            if name:
                tree.setdefault(part, {})[name] = value
            else:
                tree[part] = value
        tree["task"]["name"] = "tokens"
        tree["train"].update(microbatches=1, optimizer="sgd", lr="1.0e-4", clip="0.0")
        tree["system"] = {"name": "pac", "groups": "[1]"}
        write = lambda v: v if isinstance(v, str) else "{" + ", ".join(f"{k}: {x}" for k, x in v.items()) + "}"
        path.write_text("".join(f"{part}: {write(v)}\n" for part, v in tree.items()), encoding="utf-8")
        return path

    def pac_forward(self, dtype, repeat):
        run = self.config("forward", dtype)
        said, others = self.command([self.o.build / "tests/bench/bench_forward", run, WARMUP + self.o.steps])
        if said is None:
            return self.add({"side": "pac", "variant": "forward", "dtype": dtype, "repeat": repeat, "absent": "not built"})
        r = json.loads(said)
        for name in ("seconds", "gemm", "cpu"):
            r[name] = r[name][WARMUP:]
        return self.add({"side": "pac", "variant": "forward", "dtype": dtype, "repeat": repeat, "others": others, **r, **self.flop(run, "forward")})

    def flop(self, run, variant):
        words = ["--technique", "inference"] if variant == "forward" else []
        said, _ = self.command([self.o.build / "pac", "estimate", run, "--json", *words])
        e = json.loads(said)
        f = e["cached"]["flop"] if variant == "cached" else e["flop"]
        return {"flop": f["forward"] + (f["backward"] if variant != "forward" else 0)}

    def pac_train(self, variant, dtype, repeat):
        run = self.config(variant, dtype)
        said, others = self.command([self.o.build / "pac", "train", run, "--json"])
        names = ("hybrid", "cached") if variant == "hybrid" else ("hybrid",)
        if said is None:
            for phase in names:
                self.add({"side": "pac", "variant": phase if variant == "hybrid" else variant, "dtype": dtype, "repeat": repeat, "absent": "not built"})
            return
        result, steps = json.loads(said), self.steps()
        for phase in names:
            mine = [s for s in steps if s["phase"] == phase]
            used = [b["cpu"] - a["cpu"] for a, b in zip(mine, mine[1:])]
            memory = next(m for m in result["memory"] if m["phase"] == phase)
            epoch = next(e for e in result["epochs"] if e["phase"] == phase)
            name = phase if variant == "hybrid" else variant
            line = {"seconds": [s["seconds"] for s in mine[WARMUP:]], "cpu": used[WARMUP - 1:], "mean": epoch["seconds"] / len(mine),
                    "peak_rss": memory["peak_rss"], "pss": memory["pss"], **self.flop(run, name)}
            if variant == "hybrid":
                line["cache"] = result["cache"]
            self.add({"side": "pac", "variant": name, "dtype": dtype, "repeat": repeat, "others": others, **line})

    def steps(self):
        """The steps that the last run recorded."""
        with open(self.dir / "run" / "metrics.jsonl", encoding="utf-8") as f:
            return [s for s in (json.loads(line) for line in f) if s["event"] == "step"]

    def torch(self, variant, dtype, repeat):
        o = self.o
        said, others = self.command([o.python, HERE / "torch_step.py", o.model, variant, "--dtype", dtype, "--batch", o.batch, "--source", o.source,
                                "--target", o.target, "--steps", o.steps, "--warmup", WARMUP, "--threads", o.threads])
        self.add({"side": "torch", "variant": variant, "dtype": dtype, "repeat": repeat, "others": others, **json.loads(said.splitlines()[-1])})

    # ---- in turns ----

    def measure(self, side, variant, dtype, repeat):
        if (side == "torch" and variant in phases.MEASURED) or (variant == "full" and dtype != "f32"):  # what learns is f32
            return
        if self.has(side=side, variant=variant, dtype=dtype, repeat=repeat) or time.monotonic() - self.started > self.o.seconds:
            return
        print(f"{side} {variant} {dtype}, {repeat + 1} of {self.o.repeats}", file=sys.stderr)
        if variant in phases.MEASURED:
            phases.MEASURED[variant](self, dtype, repeat)
        elif side == "torch":
            self.torch(variant, dtype, repeat)
        elif variant == "forward":
            self.pac_forward(dtype, repeat)
        else:
            self.pac_train("hybrid" if variant == "cached" else variant, dtype, repeat)

    def limits(self, repeat):
        if self.has(side="limits", repeat=repeat) or time.monotonic() - self.started > self.o.seconds:
            return
        said, others = self.command([self.o.build / "tests/bench/bench_limits", "--threads", self.o.threads, "--disk", self.dir])
        self.add({"side": "limits", "repeat": repeat, "others": others, **json.loads(said)})

    def all(self):
        sides = self.o.sides.split(",")
        for repeat in range(self.o.repeats):
            self.limits(repeat)
            for dtype in self.o.dtypes.split(","):
                for variant in self.o.variants.split(","):
                    for side in sides if repeat % 2 == 0 else sides[::-1]:
                        self.measure(side, variant, dtype, repeat)


def main():
    given = arguments()
    bench = Bench(given)
    if not given.table:
        bench.all()
    table.show([line for line in bench.lines if line["model"] == given.model], given.model, bench.dir)


if __name__ == "__main__":
    main()
