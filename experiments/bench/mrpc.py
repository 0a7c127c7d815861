"""Three epochs of MRPC with T5-Base: pac's parallel adapters beside PEFT's LoRA, one process of two threads each. mrpc.sh starts it.

Model loading counts, evaluation does not. --rows and --steps bound the time: what was measured is then multiplied by tokens, and the table
says "extrapolated". Lines of DIR/mrpc.jsonl that are there are not measured again.
"""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import steps
import table

ROOT = steps.ROOT
# name: (program, dtype, padding); what pac is compared with, and how many times as fast
RUNS = {"pac-f32": ("pac", "f32"), "pac-bf16": ("pac", "bf16"), "lora-128": ("torch", "128"), "lora-longest": ("torch", "longest")}
EXPECTED = (("pac-f32", "lora-128", 9.0), ("pac-f32", "lora-longest", 7.0), ("pac-bf16", "lora-128", 25.0))
START_LIMIT = 3.0


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("directory", nargs="?", default="runs/bench", type=pathlib.Path)
    p.add_argument("--mrpc", required=True, type=pathlib.Path, help="train.tsv of GLUE's MRPC")
    p.add_argument("--spiece", required=True, type=pathlib.Path, help="T5's spiece.model")
    p.add_argument("--runs", default=",".join(RUNS))
    p.add_argument("--rows", type=int, default=480, help="pac trains on the first rows only; 0: on all")
    p.add_argument("--steps", type=int, default=12, help="PyTorch trains so many mini-batches; 0: all")
    p.add_argument("--repeats", type=int, default=1)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--cache", default="bf16", help="cache.dtype")
    p.add_argument("--python", default=os.environ.get("PYTHON", "python3"))
    p.add_argument("--build", default=os.environ.get("BUILD", str(ROOT / "build")), type=pathlib.Path)
    p.add_argument("--seconds", type=float, default=1e9, help="begin nothing after so many")
    p.add_argument("--table", action="store_true", help="measure nothing")
    return p.parse_args()


def model_of(o, folder):
    model = folder / "t5-base"
    if not (model / "model.safetensors").exists():
        subprocess.run([o.build / "pac", "init-model", "t5-base", model, "--seed", "1"], check=True, stdout=subprocess.DEVNULL)
    if not (model / "spiece.model").exists():
        (model / "spiece.model").write_bytes(o.spiece.read_bytes())
    return model


def first_rows(o, folder):
    if o.rows == 0:
        return o.mrpc
    path = folder / f"mrpc-{o.rows}.tsv"
    path.write_bytes(b"".join(o.mrpc.read_bytes().splitlines(keepends=True)[: o.rows + 1]))
    return path


def first_step(whole, metrics):
    """Seconds from the start of a process, which took `whole`, until its first step began; what it did after its last record counts too."""
    lines = table.read(metrics)
    first = next(line for line in lines if line["event"] == "step")
    return whole - lines[-1]["time"] + first["time"] - first["seconds"]


def pac_run(o, folder, dtype, cores):
    run, all_rows = folder / "mrpc-run", ["--set", f"task.train={o.mrpc}"]
    sets = [f"model.path={model_of(o, folder)}", f"model.dtype={dtype}", "task.name=mrpc", f"task.train={first_rows(o, folder)}", "task.max_source=128",
            "technique.name=parallel", "technique.init=random", "system.groups=[1]", "train.epochs=3", "train.batch=16", "train.microbatches=1",
            f"cache.dir={folder / 'mrpc-cache'}", f"cache.dtype={o.cache}", f"output={run}"]
    config = folder / "mrpc.yaml"
    config.write_text("model: {path: x}\ntask: {name: mrpc, train: x}\n", encoding="utf-8")
    words = [config, "--json", *[w for text in sets for w in ("--set", text)]]
    start = time.monotonic()
    said, others = steps.command([o.build / "pac", "train", *words], cores)
    whole = time.monotonic() - start
    if said is None:
        return {"absent": "not built"}
    result = json.loads(said)
    lengths = json.loads(steps.command([o.build / "pac", "estimate", *words, *all_rows], cores)[0])["lengths"]
    part = json.loads(steps.command([o.build / "pac", "estimate", *words], cores)[0])["lengths"]
    rows = sum(1 for _ in open(o.mrpc, encoding="utf-8")) - 1
    times = rows * (lengths["source"] + lengths["target"]) / (result["epochs"][0]["samples"] * (part["source"] + part["target"]))
    epochs = [e["seconds"] for e in result["epochs"]]
    return {"loading": whole - sum(epochs), "training": sum(epochs) * times, "measured": sum(epochs), "hybrid": epochs[0] * times, "cached": epochs[1] * times,
            "first_step": first_step(whole, run / "metrics.jsonl"), "others": others, "extrapolated": o.rows > 0, "mean_source": lengths["source"], "cache_bytes_per_sample": result["cache"]["bytes"] / result["epochs"][0]["samples"]}


def torch_run(o, folder, padding, cores):
    said, others = steps.command([o.python, steps.HERE / "torch_mrpc.py", model_of(o, folder), o.spiece, o.mrpc, "--pad", padding, "--steps", o.steps,
                             "--threads", o.threads], cores)
    return {**json.loads(said.splitlines()[-1]), "others": others}


def show(lines):
    print("| run | loading s | training s | total s | measured s | first step after s | |\n|---|---|---|---|---|---|---|")
    total = {}
    for name in RUNS:
        mine = [line for line in lines if line["run"] == name]
        if not mine or "absent" in mine[0]:
            continue
        of = lambda field: statistics.median(line[field] for line in mine)
        total[name] = of("loading") + of("training")
        first = f"{of('first_step'):.2f} (expected: {START_LIMIT:.0f})" if mine[0].get("first_step") else ""
        how = "extrapolated" if mine[0]["extrapolated"] else "whole run"
        print(f"| {name} | {of('loading'):.1f} | {of('training'):.0f} | {total[name]:.0f} | {of('measured'):.0f} | {first} | {how}, {of('mean_source'):.1f} source tokens a row |")
    others = [line["others"] for line in lines if "others" in line]
    if others and max(others) > 0.1:
        print(f"\n**Shared machine:** other programs took {statistics.median(others):.2f} cores (median; at most {max(others):.2f}) meanwhile.")
    print("\n| times as fast | measured | expected |\n|---|---|---|")
    for a, b, wanted in EXPECTED:
        if a in total and b in total:
            print(f"| {a} than {b} | {total[b] / total[a]:.2f} | {wanted:.0f} |")


def main():
    o = arguments()
    folder = (ROOT / o.directory).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    file, start = folder / "mrpc.jsonl", time.monotonic()
    lines = table.read(file)
    cores = set(sorted(os.sched_getaffinity(0))[: o.threads])
    for repeat in range(0 if o.table else o.repeats):
        for name in o.runs.split(","):
            if any(line["run"] == name and line["repeat"] == repeat for line in lines) or time.monotonic() - start > o.seconds:
                continue
            side, how = RUNS[name]
            print(f"{name}, {repeat + 1} of {o.repeats}", file=sys.stderr)
            line = {"run": name, "repeat": repeat, "threads": o.threads, "time": datetime.datetime.now().isoformat(timespec="seconds"),
                    **(pac_run if side == "pac" else torch_run)(o, folder, how, cores)}
            lines.append(line)
            with open(file, "a", encoding="utf-8") as f:
                f.write(json.dumps(line) + "\n")
    show(lines)


if __name__ == "__main__":
    main()
