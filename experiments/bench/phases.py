"""What is measured of pac alone: a cached epoch from cold files beside the disk, and two ranks of one thread beside one."""

import json
import os
import statistics
import subprocess
import time

WARMUP = 2
CHUNK = 1 << 20


# ---- cold files ----


def files(folder):
    return sorted(path for path in folder.iterdir() if path.is_file())


def drop(folder):
    """The pages of these files leave the page cache."""
    for path in files(folder):
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def plain_rate(folder):
    """Bytes per second of plain reads of these files, one after the other, and their bytes."""
    start, total = time.monotonic(), 0
    for path in files(folder):
        with open(path, "rb", buffering=0) as f:
            while block := f.read(CHUNK):
                total += len(block)
    return total / (time.monotonic() - start), total


def cached_epoch(bench, run, *sets):
    """Seconds of the last cached epoch."""
    words = [word for text in sets for word in ("--set", text)]
    said, others = bench.command([bench.o.build / "pac", "train", run, "--json", *words])
    result = json.loads(said)
    return [e for e in result["epochs"] if e["phase"] == "cached"][-1]["seconds"], others, result["cache"]


def cold(bench, dtype, repeat):
    """Fill a cache and keep it; then the same epoch warm and cold, and plain reads of the cold files, on the same disk."""
    run, folder = bench.config("hybrid", dtype), bench.dir / "cache"
    bench.clear(folder)
    keep = ("cache.keep=true", "train.epochs=1")
    said, _ = bench.command([bench.o.build / "pac", "train", run, "--json", *[w for text in keep for w in ("--set", text)]])
    if said is None:
        bench.add({"side": "pac", "variant": "cold", "dtype": dtype, "repeat": repeat, "absent": "not built"})
        return
    drop(folder)
    rate, total = plain_rate(folder)
    warm, _, cache = cached_epoch(bench, run, *keep)
    drop(folder)
    seconds, others, _ = cached_epoch(bench, run, *keep)
    bench.add({"side": "pac", "variant": "cold", "dtype": dtype, "repeat": repeat, "others": others, "cold": seconds, "warm": warm, "bytes": total,
               "disk": rate, "bytes_per_sample": cache["bytes"] / (bench.o.batch * (WARMUP + bench.o.steps))})
    bench.clear(folder)


# ---- ranks ----


def median_steps(bench, phase):
    return statistics.median(s["seconds"] for s in bench.steps() if s["phase"] == phase and counted(s, bench))


def counted(step, bench):
    return (step["step"] - 1) % (WARMUP + bench.o.steps) >= WARMUP


def ranks(bench, dtype, repeat):
    """One rank of one thread, and two of them: [1-1] with 8 micro-batches, cut where a profile says, and the cached phase."""
    run, launch = bench.config("hybrid", dtype), ["sh", "scripts/mpirun.sh"]
    pac, profile, plan = bench.o.build / "pac", bench.dir / "profile.yaml", bench.dir / "plan.yaml"
    one, two = set(sorted(bench.cores)[:1]), set(sorted(bench.cores)[:2])
    said, _ = bench.command([pac, "train", run, "--json"], one)
    if said is None or len(two) < 2:
        bench.add({"side": "pac", "variant": "ranks", "dtype": dtype, "repeat": repeat, "absent": "not built"})
        return
    line = {"hybrid_one": median_steps(bench, "hybrid"), "cached_one": median_steps(bench, "cached")}
    cut = ["--set", "system.name=ecofl", "--set", "system.groups=auto", "--set", "train.microbatches=8"]  # one rank a stage
    if repeat == 0 or not plan.exists():
        bench.command([*launch, "2", pac, "profile", run, "-o", profile, *cut], two)
        bench.command([pac, "plan", run, "--profile", profile, "-o", plan, *cut], two)
    _, line["others"] = bench.command([*launch, "2", pac, "train", run, "--json", "--plan", plan, "--set", "system.groups=auto",
                                       "--set", "train.microbatches=8"], two)
    line.update(hybrid_two=median_steps(bench, "hybrid"), cached_two=median_steps(bench, "cached"))
    bench.add({"side": "pac", "variant": "ranks", "dtype": dtype, "repeat": repeat, **line})


MEASURED = {"cold": cold, "ranks": ranks}
