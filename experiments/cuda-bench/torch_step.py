"""
Step times of PyTorch on this GPU: T5 with parallel adapters (tests/golden/side_torch.py), random weights, batch 16, 128 source tokens and 1 target
token. hybrid: frozen backbone forward, side network forward and backward, AdamW. cached: the same without the backbone, rows already on the GPU.

    python experiments/cuda-bench/torch_step.py [--models t5-base t5-large] [--precisions f32 tf32 bf16] [--compile] [--results FILE]

bf16: backbone in bf16, side network under autocast. One JSON object a line.
"""
import argparse
import json
import pathlib
import statistics
import sys
import time

import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"))
import side_torch  # noqa: E402

SHAPES = {
    "t5-small": dict(d_model=512, d_ff=2048, num_layers=6, num_heads=8),
    "t5-base": dict(d_model=768, d_ff=3072, num_layers=12, num_heads=12),
    "t5-large": dict(d_model=1024, d_ff=4096, num_layers=24, num_heads=16),
}


def milliseconds(step, rounds):
    """Median of single steps, each between two waits, after five to warm up."""
    times = []
    for i in range(rounds + 5):
        torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        if i >= 5:
            times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def measure(name, precision, args):
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    half = precision == "bf16"
    config = transformers.T5Config(vocab_size=32128, d_kv=64, decoder_start_token_id=0, **SHAPES[name])
    model = transformers.T5ForConditionalGeneration(config).eval().requires_grad_(False)
    side = side_torch.SideNetwork(config, side_torch.SideOptions())
    if half:
        model = model.bfloat16()
    batch = side_torch.make_batch(torch.randint(2, 32000, (args.batch, args.source)).tolist(),
                                  torch.randint(2, 32000, (args.batch, args.target)).tolist())
    optimizer = torch.optim.AdamW(side.parameters(), lr=1e-3, fused=True)
    forward = torch.compile(side_torch.forward) if args.compile else side_torch.forward

    def learn(rows):
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            loss = side_torch.loss_of(side, forward(model, side, rows, batch), batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    rows = side_torch.backbone_rows(model, batch)
    return {"model": name, "precision": precision, "by": "PyTorch" + (" compiled" if args.compile else ""),
            "hybrid_ms": milliseconds(lambda: learn(side_torch.backbone_rows(model, batch)), args.rounds),
            "cached_ms": milliseconds(lambda: learn(rows), args.rounds),
            "device": torch.cuda.get_device_name(), "torch": torch.__version__, "transformers": transformers.__version__}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", nargs="+", default=["t5-base", "t5-large"], choices=sorted(SHAPES))
    p.add_argument("--precisions", nargs="+", default=["f32", "tf32", "bf16"], choices=["f32", "tf32", "bf16"])
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--source", type=int, default=128)
    p.add_argument("--target", type=int, default=1)
    p.add_argument("--rounds", type=int, default=30)
    p.add_argument("--compile", action="store_true")
    p.add_argument("--results", help="append the lines to this file too")
    args = p.parse_args()
    if not torch.cuda.is_available():
        print("torch_step.py: PyTorch sees no GPU; nothing was measured")
        sys.exit(77)
    torch.set_default_device("cuda")
    for name in args.models:
        for precision in args.precisions:
            line = json.dumps(measure(name, precision, args))
            print(line, flush=True)
            if args.results:
                with open(args.results, "a") as f:
                    f.write(line + "\n")


if __name__ == "__main__":
    main()
