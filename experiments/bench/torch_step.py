"""One variant of a step in PyTorch, transformers and PEFT on the processor, in a process of its own; prints one JSON object.

usage: torch_step.py MODEL VARIANT [--dtype f32|bf16] [--batch 16] [--source 128] [--target 1] [--steps 5] [--warmup 2] [--threads 2]

MODEL is t5-small, t5-base, t5-large or bart-large, with random weights. VARIANT:
  forward    the model with its loss, under no_grad
  full       everything learns
  adapters   a bottleneck (width d / 16, GELU) behind each self-attention and feed-forward network
  lora       PEFT's LoRA, rank 32 on query and value of every attention
  hybrid     parallel adapters: the frozen model under no_grad, then a side network an eighth as wide over its activations; no cache
  cached     the same side network alone, fed with activations from memory

Seconds, processor seconds and the peak of the resident size are of the steps alone (`peak_built`: while the model was made).
"""

import argparse
import copy
import gc
import json
import os
import time

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("variant", choices=("forward", "full", "adapters", "lora", "hybrid", "cached"))
parser.add_argument("--dtype", default="f32", choices=("f32", "bf16"))
for name, default in (("batch", 16), ("source", 128), ("target", 1), ("steps", 5), ("warmup", 2), ("threads", 2)):
    parser.add_argument(f"--{name}", type=int, default=default)
given = parser.parse_args()

import torch
from torch import nn

torch.set_num_threads(given.threads)
torch.manual_seed(0)

import transformers
from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

DTYPE = {"f32": torch.float32, "bf16": torch.bfloat16}[given.dtype]
T5 = {"t5-small": (512, 2048, 6, 8), "t5-base": (768, 3072, 12, 12), "t5-large": (1024, 4096, 24, 16)}
TIMES_NARROWER = 8


def build():
    if given.model in T5:
        width, inner, layers, heads = T5[given.model]
        config = T5Config(vocab_size=32128, d_model=width, d_ff=inner, num_layers=layers, num_heads=heads, d_kv=64,
                          feed_forward_proj="relu", dropout_rate=0.0, use_cache=False, decoder_start_token_id=0)
        return T5ForConditionalGeneration(config).to(DTYPE)
    if given.model == "bart-large":  # the defaults are its sizes
        return BartForConditionalGeneration(BartConfig(dropout=0.0, use_cache=False)).to(DTYPE)
    raise SystemExit(f"torch_step.py: no model {given.model}")


def memory(field):
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


def reset_peak():
    with open("/proc/self/clear_refs", "w", encoding="ascii") as refs:
        refs.write("5")


class Bottleneck(nn.Module):
    """Houlsby's adapter around a linear layer or a block's sub-layer."""

    def __init__(self, inner, width):
        super().__init__()
        self.inner, self.weight = inner, inner.weight
        self.down, self.up = nn.Linear(width, width // 16), nn.Linear(width // 16, width)

    def forward(self, x):
        y = self.inner(x)
        return y + self.up(nn.functional.gelu(self.down(y), approximate="tanh"))


class SideStack(nn.Module):
    """A stack of narrow blocks: x_i = block_i(g x_(i-1) + (1 - g) down_i(b_i)), g = sigmoid(alpha_i / 0.1)."""

    def __init__(self, config, decoder):
        super().__init__()
        small, self.decoder, self.t5 = copy.deepcopy(config), decoder, given.model in T5
        width, narrow = config.d_model, config.d_model // TIMES_NARROWER
        small.d_model = narrow
        if self.t5:
            from transformers.models.t5.modeling_t5 import T5Block, T5LayerNorm

            small.d_ff, small.d_kv, small.is_decoder = config.d_ff // TIMES_NARROWER, config.d_kv // TIMES_NARROWER, decoder
            blocks = [T5Block(small, has_relative_attention_bias=i == 0, layer_idx=i) for i in range(config.num_layers)]
            self.norm = T5LayerNorm(narrow)
        else:
            from transformers.models.bart.modeling_bart import BartDecoderLayer, BartEncoderLayer

            small.encoder_ffn_dim //= TIMES_NARROWER
            small.decoder_ffn_dim //= TIMES_NARROWER
            small._attn_implementation = "sdpa"
            make = (lambda i: BartDecoderLayer(small, layer_idx=i)) if decoder else lambda i: BartEncoderLayer(small)
            blocks = [make(i) for i in range(config.decoder_layers if decoder else config.encoder_layers)]
            self.norm = nn.Identity()
        self.block = nn.ModuleList(blocks)
        self.first = nn.Linear(width, narrow)
        self.down = nn.ModuleList([nn.Linear(width, narrow) for _ in blocks])
        self.alpha = nn.Parameter(torch.zeros(len(blocks)))

    def forward(self, rows, encoded=None):
        x, bias, cross = self.first(rows[0]), None, None
        for i, block in enumerate(self.block):
            gate = torch.sigmoid(self.alpha[i] / 0.1)
            x = gate * x + (1 - gate) * self.down[i](rows[i + 1])
            if self.t5:
                out = block(x, position_bias=bias, encoder_hidden_states=encoded, encoder_decoder_position_bias=cross)
                x, bias, cross = out[0], out[1], out[2] if self.decoder and len(out) > 2 else None
            else:
                out = block(x, encoder_hidden_states=encoded) if self.decoder else block(x, None)
                x = out[0] if isinstance(out, tuple) else out
        return self.norm(x)


model = build()
model.train()
config = model.config
tokens = torch.randint(5, 30000, (given.batch, given.source))
labels = torch.randint(5, 30000, (given.batch, given.target))
mask = torch.ones_like(tokens)


def whole():
    return model(input_ids=tokens, attention_mask=mask, labels=labels).loss


def forward():
    with torch.no_grad():
        return whole()


def add_bottlenecks():
    for p in model.parameters():
        p.requires_grad_(False)
    width = config.d_model
    if given.model in T5:
        for block in [*model.encoder.block, *model.decoder.block]:
            block.layer[0].SelfAttention.o = Bottleneck(block.layer[0].SelfAttention.o, width)
            block.layer[-1].DenseReluDense.wo = Bottleneck(block.layer[-1].DenseReluDense.wo, width)
    else:
        for layer in [*model.model.encoder.layers, *model.model.decoder.layers]:
            layer.self_attn.out_proj, layer.fc2 = Bottleneck(layer.self_attn.out_proj, width), Bottleneck(layer.fc2, width)
    model.to(DTYPE)


def parallel(cached):
    """The step of a parallel-adapter model, and what learns in it."""
    for p in model.parameters():
        p.requires_grad_(False)
    width = config.d_model
    encoder, decoder, up = SideStack(config, False), SideStack(config, True), nn.Linear(width // TIMES_NARROWER, width)
    first = torch.full((given.batch, given.target), config.decoder_start_token_id or 0)
    scale = width**-0.5 if given.model in T5 else 1.0

    def loss(source, target):
        logits = model.lm_head((up(decoder(target, encoder(source))) * scale).to(DTYPE))
        return nn.functional.cross_entropy(logits.view(-1, logits.size(-1)).float(), labels.view(-1))

    def hybrid():
        with torch.no_grad():
            out = model(input_ids=tokens, attention_mask=mask, decoder_input_ids=first, output_hidden_states=True)
        return loss([x.float() for x in out.encoder_hidden_states], [x.float() for x in out.decoder_hidden_states])

    learns = [p for part in (encoder, decoder, up) for p in part.parameters()]
    if not cached:
        return hybrid, learns
    source = [torch.randn(given.batch, given.source, width) for _ in range(len(encoder.block) + 1)]
    target = [torch.randn(given.batch, given.target, width) for _ in range(len(decoder.block) + 1)]
    if given.model in T5:
        del model.encoder, model.decoder
    else:
        del model.model.encoder, model.model.decoder
    gc.collect()
    return lambda: loss(source, target), learns


step, learns = whole, []
if given.variant == "forward":
    step = forward
elif given.variant == "full":
    learns = list(model.parameters())
elif given.variant == "adapters":
    add_bottlenecks()
elif given.variant == "lora":
    import peft

    names = ["q", "v"] if given.model in T5 else ["q_proj", "v_proj"]
    model = peft.get_peft_model(model, peft.LoraConfig(r=32, lora_alpha=32, target_modules=names))
else:
    step, learns = parallel(given.variant == "cached")
if given.variant in ("adapters", "lora"):
    learns = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.SGD(learns, 1e-4) if learns else None
built = memory("VmHWM")
reset_peak()

seconds, processor = [], []
for i in range(given.warmup + given.steps):
    started, used = time.perf_counter(), time.process_time()
    value = step()
    if optimizer:
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    seconds.append(time.perf_counter() - started)
    processor.append(time.process_time() - used)
peak = memory("VmHWM")
a, b = torch.randn(2048, 768), torch.randn(3072, 768)
best = 1e30
for _ in range(20):
    started = time.perf_counter()
    a @ b.T
    best = min(best, time.perf_counter() - started)
versions = {"torch": torch.__version__, "transformers": transformers.__version__}
if given.variant == "lora":
    versions["peft"] = peft.__version__
print(json.dumps({"seconds": seconds[given.warmup:], "cpu": processor[given.warmup:], "peak_rss": peak, "peak_built": built,
                  "trainable": sum(p.numel() for p in learns), "sgemm": 2 * 2048 * 768 * 3072 / best,
                  "loss": float(value), "versions": versions, "pid": os.getpid()}))
