"""The simulated Nano's speeds from the paper's T5-Base numbers alone: what experiments/devices/jetson-nano-paper.yaml holds (its memory comes from all OOM cells).

    python3 experiments/paper/calibrate.py [--search]

Prints, for each of T5-Base's 24 numbers in Fig. 8a (a sample's forward and backward), Fig. 9a (PAC and Eco-FL) and Table 2 (QNLI), the
seconds simulated over the seconds published, and the sum of the squared logarithms. --search moves five numbers of the device to where
that sum is least (some minutes). No number of another model is read.
"""

import math
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "table2"), str(HERE.parent / "fig9")]
import fig9  # noqa: E402
import simulated as s  # noqa: E402
import table2  # noqa: E402

MODEL = "t5-base"
# key of the device: (unit, first step of the search)
KEYS = {
    "flops": ("GFLOP/s", 8),
    "block_overhead": ("ms", 0.4),
    "block_overhead_backward": ("ms", 0.4),
    "side_overhead_backward": ("ms", 0.1),
    "overhead": ("ms", 2),
}
DEVICE = s.ROOT / "experiments" / "devices" / "jetson-nano-paper.yaml"


def numbers(text):
    """The five keys of a description."""
    return {k: float(re.search(rf"^{k}: ([0-9.]+)", text, re.M)[1]) for k in KEYS}


def install(values):
    """A cluster of devices with these values, whose profiles are then derived anew."""
    keys = ", ".join(f"{k}: {v:g} {KEYS[k][0]}" for k, v in values.items())
    path = s.WORK / "calibrated.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    original = (s.ROOT / "experiments" / "clusters" / "paper-nano8.yaml").read_text(encoding="utf-8")
    path.write_text(s.changed(original, "type: jetson-nano-paper", f"type: jetson-nano-paper, {keys}", "paper-nano8.yaml"), encoding="utf-8")
    s.CLUSTER = path
    s.PROFILES.clear()


def curve(text, kind):
    """Seconds forward and backward of the first point, one sample."""
    found = re.search(kind + r":\n\s+tokens: \[.*\]\n\s+forward: \[([^,\]]*).*\n\s+backward: \[([^,\]]*)", text)
    return (float(found[1]), float(found[2])) if found else (0, 0)


def sample_seconds(technique):
    """Forward and backward of one sample through all layers. The head's backward is in its forward curve, half of it."""
    text = s.profile(MODEL, technique).read_text(encoding="utf-8")
    layers = [curve(text, kind) for kind in ("encoder_block", "decoder_block", "encoder_side", "decoder_side")]
    head, embedding = curve(text, "head")[0] / 2, curve(text, "encoder_embedding")[0]
    return 12 * sum(f for f, _ in layers) + head + embedding, 12 * sum(b for _, b in layers) + head


def ratios():
    found = {}
    for name, (forward, backward) in s.PAPER["fig8a_seconds_per_sample"][MODEL].items():
        if name != "parallel_adapters_cached":
            f, b = sample_seconds({v: k for k, v in s.PAPER_NAMES.items()}.get(name, name))
            found[f"Fig. 8a {name} forward"], found[f"Fig. 8a {name} backward"] = f / forward, b / backward
    for system in ("pac", "eco-fl"):
        for i, n in enumerate(s.PAPER["fig9a_samples_per_second"]["devices"]):
            found[f"Fig. 9a {system} {n}"] = 1 / fig9.Cell(MODEL, system, i, False).ratio
    for key, hours in s.PAPER["table2_hours"][MODEL].items():
        if hours[0] != "OOM":
            found[f"Table 2 {key}"] = table2.Row(MODEL, key, hours, 8, False, ["qnli"]).ratios[0]
    return found


def misfit(values):
    install(values)
    return sum(math.log(r) ** 2 for r in ratios().values())


def search(values):
    """Coordinate descent with halved steps."""
    best, known = misfit(values), {}
    steps = {k: step for k, (_, step) in KEYS.items()}
    for _ in range(4):
        for k, sign in ((k, sign) for k in KEYS for sign in (1, -1)):
            while True:
                moved = {**values, k: max(0, values[k] + sign * steps[k])}
                at = tuple(moved.values())
                known[at] = known[at] if at in known else misfit(moved)
                if known[at] >= best - 1e-5:
                    break
                best, values = known[at], moved
                print(f"{best:.4f}", values, flush=True)
        steps = {k: step / 2 for k, step in steps.items()}
    return values


def main():
    p = s.arguments(__doc__)
    p.add_argument("--search", action="store_true")
    o = p.parse_args()
    values = numbers(DEVICE.read_text(encoding="utf-8"))
    if o.search:
        values = search(values)
    install(values)
    found = ratios()
    print("\n".join(f"{k}: {v:g} {KEYS[k][0]}" for k, v in values.items()) + "\n")
    print(s.table(["T5-Base", "simulated / paper, seconds"], [[k, f"{v:.2f}"] for k, v in found.items()]))
    print(f"\nsum of the squared logarithms: {sum(math.log(v) ** 2 for v in found.values()):.4f}")


if __name__ == "__main__":
    sys.exit(main())
