"""The pronunciation experiment in PyTorch: what pac's numbers are compared with.

Hugging Face's BART, PEFT's LoRA, and the side network built of Hugging Face's own layers. One run per call; the result is one JSON
line, appended to --results. Protocol (README.md): whole-word exact match of greedy decoding, AdamW without decay, batch 64, 50 warm-up
steps, linear to 0, 5 epochs, no dropout, no clipping.

    python torch_pronounce.py DATA MODEL TECHNIQUE [--seed 0] [--reduction 8] [--results torch.jsonl]

DATA holds train.jsonl and dev.jsonl, MODEL is us-bart; TECHNIQUE is none, full, lora, adapters or parallel.
"""

import argparse
import copy
import json
import os
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional as F
from transformers import BartForConditionalGeneration, get_linear_schedule_with_warmup
from transformers.models.bart.modeling_bart import BartDecoderLayer, BartEncoderLayer

BLOCKED = -1e9  # added to the scores of positions that must not be seen
GATE_TEMPERATURE = 0.1


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("data")
    p.add_argument("model")
    p.add_argument("technique", choices=("none", "full", "lora", "adapters", "parallel"))
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--lr", type=float, help="default: 1e-3 full, 3e-3 the others")
    p.add_argument("--epochs", type=int, default=5)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--warmup", type=int, default=50)
    p.add_argument("--reduction", type=int, default=8, help="k of the side network")
    p.add_argument("--rank", type=int, default=32, help="of LoRA; its scale is 1")
    p.add_argument("--width", type=int, default=8, help="of the bottleneck adapters")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--results", help="append the result to this file")
    o = p.parse_args()
    o.lr = o.lr or (1e-3 if o.technique == "full" else 3e-3)
    return o


class Rows:
    """The words of one file, padded once; a batch is cut to its longest word and pronunciation."""

    def __init__(self, path, start):
        with open(path, encoding="utf-8") as f:
            rows = [json.loads(line) for line in f]
        self.words = [torch.tensor(r["input_ids"]) for r in rows]
        self.sounds = [torch.tensor(r["labels"]) for r in rows]
        self.start = start

    def __len__(self):
        return len(self.words)

    def batch(self, indices):
        pad = nn.utils.rnn.pad_sequence
        ids = pad([self.words[i] for i in indices], True, 0)
        labels = pad([self.sounds[i] for i in indices], True, -100)
        lengths = torch.tensor([len(self.words[i]) for i in indices])
        mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
        shifted = labels.roll(1, 1).clamp(min=0)
        shifted[:, 0] = self.start
        return ids, mask, shifted, labels


class Bottleneck(nn.Module):
    """Houlsby's adapter behind a linear layer: y + up(gelu(down(y))), Up zero at first."""

    def __init__(self, inner, width):
        super().__init__()
        self.inner = inner
        self.down = nn.Linear(inner.out_features, width)
        self.up = nn.Linear(width, inner.out_features)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x):
        y = self.inner(x)
        return y + self.up(F.gelu(self.down(y), approximate="tanh"))


class Stack(nn.Module):
    """One stack of the side network: a <- g a + (1 - g) down(b_i), then a small layer, for every backbone layer."""

    def __init__(self, config, small, layer, count):
        super().__init__()
        self.first = nn.Linear(config.d_model, small.d_model)
        self.down = nn.ModuleList(nn.Linear(config.d_model, small.d_model) for _ in range(count))
        self.layers = nn.ModuleList(layer(small, i) for i in range(count))
        self.alpha = nn.Parameter(torch.zeros(count))

    def forward(self, states, run):
        a = self.first(states[0])
        for i, layer in enumerate(self.layers):
            g = torch.sigmoid(self.alpha[i] / GATE_TEMPERATURE)
            a = run(layer, g * a + (1 - g) * self.down[i](states[i + 1]))
        return a


class SideNetwork(nn.Module):
    """Parallel adapters (merge add): Up(side decoder) is added to what the frozen decoder gives the head."""

    def __init__(self, config, k):
        super().__init__()
        small = copy.deepcopy(config)
        small.d_model, small.encoder_ffn_dim, small.decoder_ffn_dim = (
            n // k for n in (config.d_model, config.encoder_ffn_dim, config.decoder_ffn_dim)
        )
        self.encoder = Stack(config, small, BartEncoderLayer, config.encoder_layers)
        self.decoder = Stack(config, small, BartDecoderLayer, config.decoder_layers)
        self.up = nn.Linear(small.d_model, config.d_model)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def encode(self, states, mask):
        return self.encoder(states, lambda layer, a: layer(a, mask))

    def decode(self, states, causal, memory, mask):
        return self.up(self.decoder(states, lambda layer, a: layer(a, causal, memory, mask, use_cache=False)))


class Speller(nn.Module):
    """us-bart with one technique: encode() once per word, decode() to the logits of every position."""

    def __init__(self, path, o):
        super().__init__()
        bart = BartForConditionalGeneration.from_pretrained(path, dropout=0.0, use_cache=False)
        bart.requires_grad_(o.technique == "full")
        self.side = SideNetwork(bart.config, o.reduction) if o.technique == "parallel" else None
        if o.technique == "lora":
            bart = get_peft_model(bart, LoraConfig(r=o.rank, lora_alpha=o.rank, target_modules=["q_proj", "v_proj"])).base_model.model
        if o.technique == "adapters":
            for layer in [*bart.model.encoder.layers, *bart.model.decoder.layers]:
                layer.self_attn.out_proj = Bottleneck(layer.self_attn.out_proj, o.width)
                layer.fc2 = Bottleneck(layer.fc2, o.width)
        self.bart = bart

    def encode(self, ids, mask):
        deep = self.side is not None
        with torch.set_grad_enabled(torch.is_grad_enabled() and not deep):
            out = self.bart.model.encoder(input_ids=ids, attention_mask=mask, output_hidden_states=deep)
        if not deep:
            return out.last_hidden_state, mask, None
        blocked = (1.0 - mask[:, None, None, :].float()) * BLOCKED
        return out.last_hidden_state, mask, (self.side.encode(out.hidden_states, blocked), blocked)

    def decode(self, memory, ids):
        hidden, mask, small = memory
        deep = small is not None
        with torch.set_grad_enabled(torch.is_grad_enabled() and not deep):
            out = self.bart.model.decoder(
                input_ids=ids, encoder_hidden_states=hidden, encoder_attention_mask=mask, output_hidden_states=deep, use_cache=False
            )
        x = out.last_hidden_state
        if deep:
            causal = torch.full((ids.shape[1], ids.shape[1]), BLOCKED).triu(1)[None, None]
            x = x + self.side.decode(out.hidden_states, causal, *small)
        return self.bart.lm_head(x) + self.bart.final_logits_bias

    @torch.no_grad()
    def greedy(self, ids, mask, longest):
        """Rows of output ids, the end symbol included, pad behind it."""
        config = self.bart.config
        memory = self.encode(ids, mask)
        out = torch.full((len(ids), 1), config.decoder_start_token_id)
        done = torch.zeros(len(ids), dtype=torch.bool)
        while not done.all() and out.shape[1] <= longest:
            following = self.decode(memory, out)[:, -1].argmax(-1).masked_fill(done, config.pad_token_id)
            out = torch.cat([out, following[:, None]], 1)
            done |= following == config.eos_token_id
        return out[:, 1:]


def exact_match(speller, rows):
    """The part of the words whose whole pronunciation is right."""
    speller.eval()
    longest = max(map(len, rows.sounds)) + 1
    order = sorted(range(len(rows)), key=lambda i: len(rows.words[i]))
    right = 0
    for at in range(0, len(order), 250):
        ids, mask, _, labels = rows.batch(order[at : at + 250])
        out = speller.greedy(ids, mask, longest)
        width = max(out.shape[1], labels.shape[1])
        out, labels = F.pad(out, (0, width - out.shape[1])), F.pad(labels.clamp(min=0), (0, width - labels.shape[1]))
        right += (out == labels).all(1).sum().item()
    return right / len(rows)


def train(speller, rows, o):
    """Seconds and the mean loss of the last epoch."""
    speller.train()
    learning = [p for p in speller.parameters() if p.requires_grad]
    steps = -(-len(rows) // o.batch) * o.epochs
    optimizer = torch.optim.AdamW(learning, o.lr, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, o.warmup, steps)
    began = time.time()
    for _ in range(o.epochs):
        order, losses = torch.randperm(len(rows)).tolist(), []
        for at in range(0, len(order), o.batch):
            ids, mask, shifted, labels = rows.batch(order[at : at + o.batch])
            logits = speller.decode(speller.encode(ids, mask), shifted)
            loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    return time.time() - began, sum(losses) / len(losses)


def main():
    o = options()
    torch.set_num_threads(o.threads)
    torch.manual_seed(o.seed)
    speller = Speller(o.model, o)
    start = speller.bart.config.decoder_start_token_id
    result = {"technique": o.technique, "seed": o.seed, "lr": o.lr, "epochs": o.epochs}
    if o.technique == "parallel":
        result["reduction"] = o.reduction
    if o.technique != "none":
        result["learning"] = sum(p.numel() for p in speller.parameters() if p.requires_grad)
        seconds, loss = train(speller, Rows(os.path.join(o.data, "train.jsonl"), start), o)
        result.update(loss=round(loss, 4), seconds=round(seconds, 1))
    result["exact_match"] = exact_match(speller, Rows(os.path.join(o.data, "dev.jsonl"), start))
    line = json.dumps(result)
    print(line, flush=True)
    if o.results:
        with open(o.results, "a", encoding="utf-8") as f:
            f.write(line + "\n")


if __name__ == "__main__":
    main()
