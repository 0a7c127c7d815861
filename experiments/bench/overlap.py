"""Two devices on one machine with a shaped link between them: steps of pac with messages and sums behind the computation, and one after the other.

Two network namespaces, a veth pair, tbf at --rate in both directions; one rank of one thread in each. The limit is the same step over shared
memory, where messages cost next to nothing. Needs root, iproute2 and Open MPI. overlap.sh starts it.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WARMUP = 2
NAMES = (f"pac{os.getpid()}a", f"pac{os.getpid()}b")
ADDRESSES = ("10.213.77.1", "10.213.77.2")


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("directory", nargs="?", default="runs/overlap", type=pathlib.Path)
    p.add_argument("--model", default="t5-base")
    p.add_argument("--rate", default="1gbit", help="of the link, as tc has it")
    p.add_argument("--layouts", default="2;1,1", help="system.groups, several with ; between them")
    p.add_argument("--steps", type=int, default=5, help="measured steps of a phase, after 2 that are not")
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--set", action="append", default=[], help="for every run, such as train.bucket=4MiB")
    p.add_argument("--build", default=os.environ.get("BUILD", str(ROOT / "build")), type=pathlib.Path)
    return p.parse_args()


def ip(*words, check=True):
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True)


class Link:
    """The two namespaces, and how mpirun starts a rank in each."""

    def __init__(self, rate):
        self.rate = rate

    def __enter__(self):
        for name in NAMES:
            ip("netns", "add", name)
        ip("link", "add", "pacv0", "netns", NAMES[0], "type", "veth", "peer", "name", "pacv0", "netns", NAMES[1])
        for name, address in zip(NAMES, ADDRESSES):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "pacv0")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "pacv0", "up")
            ip("netns", "exec", name, "tc", "qdisc", "add", "dev", "pacv0", "root", "tbf", "rate", self.rate, "burst", "256kb", "latency", "50ms")
        handle, self.agent = tempfile.mkstemp(suffix=".sh")
        with os.fdopen(handle, "w") as f:
            f.write(f'#!/bin/sh\nshift\nexec ip netns exec {NAMES[1]} unshare --uts sh -c "hostname {NAMES[1]}; $*"\n')
        os.chmod(self.agent, 0o755)
        return self

    def __exit__(self, *_):
        os.unlink(self.agent)
        for name in NAMES:
            ip("netns", "del", name, check=False)

    def command(self, words):
        mpirun = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", "2", "--host", ",".join(ADDRESSES), "--mca", "plm_rsh_agent",
                  self.agent, "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "pacv0", "--mca", "oob_tcp_if_include", "pacv0"]
        line = " ".join(f"'{w}'" for w in [*mpirun, *words])
        return ["ip", "netns", "exec", NAMES[0], "unshare", "--uts", "sh", "-c", f"hostname {NAMES[0]}; exec {line}"]


def rows(path, count):
    draw = random.Random(1)
    lines = [json.dumps({"input_ids": [draw.randrange(5, 30000) for _ in range(128)], "labels": [draw.randrange(5, 30000)]}) for _ in range(count)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def prepare(o):
    o.directory = (ROOT / o.directory).resolve()
    o.directory.mkdir(parents=True, exist_ok=True)
    model = o.directory / o.model
    if not (model / "model.safetensors").exists():
        subprocess.run([o.build / "pac", "init-model", o.model, model, "--seed", "1"], check=True, stdout=subprocess.DEVNULL)
    rows(o.directory / "rows.jsonl", o.batch * (WARMUP + o.steps))
    sets = {"model.path": model, "task.name": "tokens", "task.train": o.directory / "rows.jsonl", "task.max_source": 128, "task.max_target": 1,
            "technique.name": "parallel", "technique.init": "random", "train.batch": o.batch, "train.epochs": 2, "train.microbatches": 8,
            "train.optimizer": "sgd", "output": o.directory / "run", "cache.dir": o.directory / "cache"}
    return [f"{key}={value}" for key, value in sets.items()] + o.set


def train(o, sets, groups, overlap, link):
    run = o.directory / "run.yaml"
    tree = {}
    for text in [*sets, f"system.groups=[{groups}]", f"train.overlap={overlap}"]:
        key, value = text.split("=", 1)
        section, name = key.split(".", 1) if "." in key else (key, None)
        if name is None:
            tree[section] = value
        else:
            tree.setdefault(section, {})[name] = value
    lines = [f"{k}: {v}" if isinstance(v, str) else f"{k}: {{" + ", ".join(f"{a}: {b}" for a, b in v.items()) + "}" for k, v in tree.items()]
    run.write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = [str(o.build / "pac"), "train", str(run), "--json", "--quiet"]
    words = link.command(words) if link else ["sh", str(ROOT / "scripts/mpirun.sh"), "2", *words]
    done = subprocess.run(words, text=True, capture_output=True, check=False, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)}\n{done.stderr.strip()[-2000:]}")
    result = json.loads(done.stdout)
    steps = [json.loads(line) for line in open(o.directory / "run/metrics.jsonl", encoding="utf-8")]
    steps = [s for s in steps if s["event"] == "step" and (s["step"] - 1) % (WARMUP + o.steps) >= WARMUP]
    seconds = {phase: statistics.median(s["seconds"] for s in steps if s["phase"] == phase) for phase in ("hybrid", "cached")}
    return {**seconds, **result["communication"]}


def report(groups, memory, behind, after):
    for phase in ("hybrid", "cached"):
        limit, on, off = memory[phase], behind[phase], after[phase]
        cost = off - limit
        hidden = f"{100 * (off - on) / cost:.0f} %" if cost > 0.01 * limit else "-"
        print(f"| {phase}, [{groups.replace(',', '-')}] | {limit:.3f} | {off:.3f} | {on:.3f} | {hidden} | {limit / off:.2f} | {limit / on:.2f} |", flush=True)


def main():
    o = arguments()
    sets = prepare(o)
    print(f"{o.model}, batch {o.batch}, two ranks of one thread, link {o.rate}; medians of {o.steps} steps\n")
    print("| step | over shared memory s | one after the other s | behind s | of the link's time hidden | of the limit before | of the limit now |")
    print("|---|---|---|---|---|---|---|")
    with Link(o.rate) as link:
        for groups in o.layouts.split(";"):
            memory = train(o, sets, groups, "true", None)
            after = train(o, sets, groups, "false", link)
            behind = train(o, sets, groups, "true", link)
            report(groups, memory, behind, after)
            print(f"  waited: {json.dumps(after)} {json.dumps(behind)}", file=sys.stderr)


main()
