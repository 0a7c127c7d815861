"""PEFT LoRA on MRPC's training rows with T5 on the processor: seconds of loading the model and of training; prints one JSON object.

usage: torch_mrpc.py MODEL_DIR SPIECE TRAIN.tsv --pad 128|longest [--dtype f32|bf16] [--steps N] [--epochs 3] [--batch 16] [--threads 2]

--steps N times N mini-batches, spread evenly over the first epoch after one that is not counted, and multiplies by the padded tokens of all
epochs ("extrapolated": true); 0 trains it all. Loading is from_pretrained() and PEFT; Python's imports and tokenising are not counted.
"""

import argparse
import json
import random
import time

parser = argparse.ArgumentParser()
for name in ("model", "spiece", "train"):
    parser.add_argument(name)
parser.add_argument("--pad", default="128")
parser.add_argument("--dtype", default="f32", choices=("f32", "bf16"))
for name, default in (("steps", 0), ("epochs", 3), ("batch", 16), ("threads", 2), ("source", 128)):
    parser.add_argument(f"--{name}", type=int, default=default)
given = parser.parse_args()

import peft
import sentencepiece
import torch
import transformers

torch.set_num_threads(given.threads)
torch.manual_seed(0)
END, WORDS = 1, ("not_equivalent", "equivalent")


def samples():
    pieces = sentencepiece.SentencePieceProcessor(model_file=given.spiece)
    with open(given.train, encoding="utf-8-sig") as f:
        lines = [line.rstrip("\r\n").split("\t") for line in f]
    for label, _, _, a, b in lines[1:]:
        source = pieces.encode(f"mrpc sentence1: {a} sentence2: {b}")[: given.source - 1] + [END]
        yield source, pieces.encode(WORDS[int(label)]) + [END]


def padded(rows, length, fill):
    return torch.tensor([row + [fill] * (length - len(row)) for row in rows])


def batches(rows, epoch):
    order = list(range(len(rows)))
    random.Random(epoch).shuffle(order)
    for i in range(0, len(order), given.batch):
        yield [rows[j] for j in order[i : i + given.batch]]


def source_length(batch):
    return given.source if given.pad == "128" else max(len(source) for source, _ in batch)


def tokens(batch):
    return len(batch) * (source_length(batch) + max(len(target) for _, target in batch))


rows = list(samples())
start = time.perf_counter()
dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[given.dtype]
model = transformers.T5ForConditionalGeneration.from_pretrained(given.model, dtype=dtype, dropout_rate=0.0)  # as pac trains
model = peft.get_peft_model(model, peft.LoraConfig(r=32, lora_alpha=32, target_modules=["q", "v"]))
model.train()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 3e-4, weight_decay=0.0)
loading = time.perf_counter() - start


def step(batch):
    source = padded([s for s, _ in batch], source_length(batch), 0)
    target = padded([t for _, t in batch], max(len(t) for _, t in batch), -100)
    model(input_ids=source, attention_mask=(source != 0).long(), labels=target, use_cache=False).loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


every = sum(tokens(b) for epoch in range(given.epochs) for b in batches(rows, epoch))
if given.steps > 0:
    first = list(batches(rows, 0))
    chosen = [first[i * len(first) // (given.steps + 1)] for i in range(given.steps + 1)]
    step(chosen[0])
    chosen = chosen[1:]
else:
    chosen = [b for epoch in range(given.epochs) for b in batches(rows, epoch)]
start, seconds = time.perf_counter(), []
for b in chosen:
    began = time.perf_counter()
    step(b)
    seconds.append(time.perf_counter() - began)
training = time.perf_counter() - start
counted = sum(tokens(b) for b in chosen)
print(json.dumps({"loading": loading, "training": training * every / counted, "measured": training, "steps": len(chosen), "step": sorted(seconds)[len(seconds) // 2],
                  "tokens": every, "extrapolated": given.steps > 0, "mean_source": sum(len(s) for s, _ in rows) / len(rows),
                  "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}}))
