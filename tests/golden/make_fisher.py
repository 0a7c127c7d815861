#!/usr/bin/env python3
"""Writes fixtures/fisher/<model>.safetensors: the side network pruned (k = 4) by the Fisher information of the backbone's weights,
what `technique.init: fisher` starts from. README.md has the rule; scores are sums over the rows of tests/mpi/tokens.jsonl of squared
gradients, each of one row's mean token loss, in float64.

Run: OMP_NUM_THREADS=1 python3 tests/golden/make_fisher.py
"""
import json
import os
import re

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import AutoModelForSeq2SeqLM

HERE = os.path.dirname(os.path.abspath(__file__))
ROWS = os.path.join(HERE, "..", "mpi", "tokens.jsonl")
K = 4
LEAD = 1e-3  # least relative distance between the last weight kept and the first one dropped: rounding must not decide

# ours -> Hugging Face's module inside a block; per family and stack
T5 = {"self": "layer.0.SelfAttention.{}", "self.norm": "layer.0.layer_norm", "letters": dict(zip("qkvo", "qkvo"))}
FAMILIES = {
    "t5v10": {
        "stack": "{}.block.{}.", "final": "{}.final_layer_norm", "table": "{}.block.0.layer.0.SelfAttention.relative_attention_bias",
        "enc": T5 | {"ff.norm": "layer.1.layer_norm", "ff.wi": "layer.1.DenseReluDense.wi", "ff.wo": "layer.1.DenseReluDense.wo"},
        "dec": T5 | {"cross": "layer.1.EncDecAttention.{}", "cross.norm": "layer.1.layer_norm", "ff.norm": "layer.2.layer_norm",
                     "ff.wi": "layer.2.DenseReluDense.wi", "ff.wo": "layer.2.DenseReluDense.wo"},
    },
    "tiny/bart": {
        "stack": "model.{}.layers.{}.", "final": None, "table": None,
        "enc": {"self": "self_attn.{}", "self.norm": "self_attn_layer_norm", "ff.norm": "final_layer_norm", "ff.wi": "fc1",
                "ff.wo": "fc2", "letters": {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "out_proj"}},
    },
}
FAMILIES["tiny/bart"]["dec"] = FAMILIES["tiny/bart"]["enc"] | {"cross": "encoder_attn.{}", "cross.norm": "encoder_attn_layer_norm"}


def rows_of(name, vocab):
    """tests/cli and tests/mpi make ids of one digit with the same replacement where the vocabulary is small."""
    with open(ROWS) as f:
        text = f.read()
    if name != "t5v10":
        text = re.sub(r"[0-9]([0-9])", r"\1", text)
    rows = [json.loads(line) for line in text.splitlines()]
    assert max(max(r["input_ids"] + r["labels"]) for r in rows) < vocab
    return rows


def fisher(model, rows):
    total = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    for row in rows:
        model.zero_grad()
        model(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss.backward()
        for n, p in model.named_parameters():
            total[n] += p.grad ** 2
    return {n: t.numpy() for n, t in total.items()}


def keep(importance, n):
    order = np.argsort(-importance, kind="stable")
    last, first = importance[order[n - 1]], importance[order[n]]
    assert (last - first) / last > LEAD, "a selection hangs on rounding: take other rows"
    return np.sort(order[:n])


class Pruner:
    def __init__(self, name, model, score):
        self.f, self.c, self.score = FAMILIES[name], model.config, score
        self.w = {n: p.detach().numpy() for n, p in model.state_dict().items()}
        self.heads = self.c.num_attention_heads
        self.out = {}

    def module(self, stack, i, ours):
        """self.q -> the module's full name."""
        names = self.f[stack]
        base = self.f["stack"].format({"enc": "encoder", "dec": "decoder"}[stack], i)
        part, letter = ours.split(".")
        if part in ("self", "cross") and letter != "norm":
            return base + names[part].format(names["letters"][letter])
        return base + names[ours]

    def depth(self, stack):
        pattern = re.escape(self.f["stack"].format({"enc": "encoder", "dec": "decoder"}[stack], "#")).replace(r"\#", r"(\d+)")
        return 1 + max(int(m.group(1)) for m in (re.match(pattern, n) for n in self.w) if m)

    def attentions(self, stack):
        return ("self", "cross") if stack == "dec" else ("self",)

    def s(self, stack, i, ours):
        return self.score[self.module(stack, i, ours) + ".weight"]

    def channels(self, stack):
        total = 0
        for i in range(self.depth(stack)):
            for a in self.attentions(stack):
                columns = "qkv" if a == "self" else "q"
                total = total + sum(self.s(stack, i, f"{a}.{x}").sum(0) for x in columns) + self.s(stack, i, f"{a}.o").sum(1)
            total = total + self.s(stack, i, "ff.wi").sum(0) + self.s(stack, i, "ff.wo").sum(1)
        return keep(total, len(total) // K)

    def take(self, stack, i, ours, rows, cols):
        module, name = self.module(stack, i, ours), f"{stack}.{i}.{ours}"
        self.out[name + ".weight"] = self.w[module + ".weight"][rows][:, cols] if cols is not None else self.w[module + ".weight"][rows]
        if module + ".bias" in self.w:
            self.out[name + ".bias"] = self.w[module + ".bias"][rows]

    def attention(self, stack, i, a, mine, source):
        cols = {"q": mine, "k": source, "v": source}
        total = sum(self.s(stack, i, f"{a}.{x}")[:, cols[x]].sum(1) for x in "qkv") + self.s(stack, i, f"{a}.o")[mine].sum(0)
        heads = total.reshape(self.heads, -1)
        width = heads.shape[1]
        rows = np.concatenate([h * width + keep(heads[h], width // K) for h in range(self.heads)])
        for x in "qkv":
            self.take(stack, i, f"{a}.{x}", rows, cols[x])
        self.take(stack, i, f"{a}.o", mine, rows)
        self.take(stack, i, f"{a}.norm", mine, None)

    def run(self):
        select = {stack: self.channels(stack) for stack in ("enc", "dec")}
        for stack, mine in select.items():
            for i in range(self.depth(stack)):
                for a in self.attentions(stack):
                    self.attention(stack, i, a, mine, mine if a == "self" else select["enc"])
                total = self.s(stack, i, "ff.wi")[:, mine].sum(1) + self.s(stack, i, "ff.wo")[mine].sum(0)
                units = keep(total, len(total) // K)
                self.take(stack, i, "ff.wi", units, mine)
                self.take(stack, i, "ff.wo", mine, units)
                self.take(stack, i, "ff.norm", mine, None)
            word = {"enc": "encoder", "dec": "decoder"}[stack]
            if self.f["final"]:
                self.out[stack + ".norm.weight"] = self.w[self.f["final"].format(word) + ".weight"][mine]
                self.out[stack + ".bias_table"] = self.w[self.f["table"].format(word) + ".weight"]
        return self.out


def main():
    torch.set_num_threads(1)
    for name in FAMILIES:
        model = AutoModelForSeq2SeqLM.from_pretrained(os.path.join(HERE, "fixtures", name), dtype=torch.float64).eval()
        pruned = Pruner(name, model, fisher(model, rows_of(name, model.config.vocab_size))).run()
        out = os.path.join(HERE, "fixtures", "fisher", name.replace("/", "_") + ".safetensors")
        os.makedirs(os.path.dirname(out), exist_ok=True)
        save_file({k: np.ascontiguousarray(v.astype(np.float32)) for k, v in pruned.items()}, out)


if __name__ == "__main__":
    main()
