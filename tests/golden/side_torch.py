"""
T5 with parallel adapters, stated in PyTorch: the reference that the C code is held against.

The backbone is Hugging Face's T5ForConditionalGeneration, frozen and without gradients. The side network is written out
here, a class a part, with the parameter names that the C code and the saved adapters use. Batches are padded and
masked; the rows that the masks keep are the rows of our packed batches, in the same order. Written to be read: no
cache, no speed.
"""
import dataclasses
import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.t5.modeling_t5 import T5Attention

IGNORE = -100
TEMPERATURE = 0.1


@dataclasses.dataclass
class SideOptions:
    reduction: int = 8
    gate: str = "learned"  # learned | none
    merge: str = "none"  # none | add | gated
    layers: list | None = None  # backbone layers with a side layer, from 1 within each stack; None: all
    head: str = "lm"  # lm | classification
    classes: int = 0  # outputs of the classification head; 1: regression

    def blocks(self, depth):
        """The blocks (from 0) of a stack of this depth that carry a side layer."""
        return [i for i in range(depth) if self.layers is None or i + 1 in self.layers]


# ---- the side network ----


class RmsNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


class Attention(nn.Module):
    """x + o(softmax(q k^T + bias) v), k and v of x's norm or of `source`. Scores are not scaled."""

    def __init__(self, width, inner, heads, eps):
        super().__init__()
        self.heads = heads
        self.norm = RmsNorm(width, eps)
        self.q, self.k, self.v = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, width, bias=False)

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x, bias, source=None):
        n = self.norm(x)
        s = n if source is None else source
        scores = self.split(self.q(n)) @ self.split(self.k(s)).transpose(2, 3) + bias
        y = scores.softmax(-1) @ self.split(self.v(s))
        return x + self.o(y.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, width, inner, gated, eps):
        super().__init__()
        self.gated = gated
        self.norm = RmsNorm(width, eps)
        self.wi = nn.Linear(width, inner, bias=False)  # the activated one (Hugging Face: wi, or wi_0 when gated)
        if gated:
            self.wg = nn.Linear(width, inner, bias=False)  # wi_1
        self.wo = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        n = self.norm(x)
        y = F.gelu(self.wi(n), approximate="tanh") * self.wg(n) if self.gated else F.relu(self.wi(n))
        return x + self.wo(y)


class SideLayer(nn.Module):
    """Takes in the backbone's row b_i, then one T5 block of width d / k."""

    def __init__(self, config, o, cross):
        super().__init__()
        width, k, eps = config.d_model // o.reduction, o.reduction, config.layer_norm_epsilon
        inner = config.num_heads * (config.d_kv // k)
        self.down = nn.Linear(config.d_model, width)
        self.gate = nn.Parameter(torch.zeros(1)) if o.gate == "learned" else None
        self.add_module("self", Attention(width, inner, config.num_heads, eps))
        self.cross = Attention(width, inner, config.num_heads, eps) if cross else None
        self.ff = FeedForward(width, config.d_ff // k, config.is_gated_act, eps)

    def forward(self, a, b, bias, source, source_bias):
        if self.gate is None:
            a = a + self.down(b)
        else:
            g = torch.sigmoid(self.gate / TEMPERATURE)
            a = g * a + (1 - g) * self.down(b)
        a = self.get_submodule("self")(a, bias)
        if self.cross is not None:
            a = self.cross(a, source_bias, source)
        return self.ff(a)


class SideStack(nn.Module):
    """The ladder beside one stack: a_0 = first(b_0), a_i = f_i(b_i, a_{i-1}), a final norm. Blocks are named by their index."""

    def __init__(self, config, o, depth, decoder):
        super().__init__()
        width = config.d_model // o.reduction
        self.config, self.decoder, self.blocks = config, decoder, o.blocks(depth)
        self.first = nn.Linear(config.d_model, width)
        self.bias_table = nn.Parameter(torch.zeros(config.relative_attention_num_buckets, config.num_heads))
        for i in self.blocks:
            self.add_module(str(i), SideLayer(config, o, decoder))
        self.norm = RmsNorm(width, config.layer_norm_epsilon)

    def position_bias(self, n):
        """[1, H, n, n]: the table's entry for (key - query), the same for every block of the stack."""
        r = torch.arange(n)[None, :] - torch.arange(n)[:, None]
        bucket = T5Attention._relative_position_bucket(
            r, not self.decoder, self.config.relative_attention_num_buckets, self.config.relative_attention_max_distance)
        return self.bias_table[bucket].permute(2, 0, 1)[None]

    def forward(self, b, mask, source=None, source_mask=None):
        n = mask.shape[1]
        seen = mask[:, None, None, :]
        if self.decoder:
            seen = seen & torch.ones(n, n, dtype=torch.bool).tril()
        bias = self.position_bias(n) + mask_bias(seen, b[0].dtype)
        source_bias = None if source is None else mask_bias(source_mask[:, None, None, :], b[0].dtype)
        a = self.first(b[0])
        for i in self.blocks:
            a = self.get_submodule(str(i))(a, b[i + 1], bias, source, source_bias)
        return self.norm(a)


def mask_bias(seen, dtype):
    return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)


class Merge(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(width))

    def forward(self, backbone, up):
        g = torch.sigmoid(self.gate / TEMPERATURE)
        return g * backbone + (1 - g) * up


class Head(nn.Module):
    """Classification: dense, tanh, projection (Hugging Face's T5ClassificationHead without dropout)."""

    def __init__(self, width, classes):
        super().__init__()
        self.dense, self.out = nn.Linear(width, width), nn.Linear(width, classes)

    def forward(self, h):
        return self.out(torch.tanh(self.dense(h)))


class SideNetwork(nn.Module):
    def __init__(self, config, o):
        super().__init__()
        d, self.options = config.d_model, o
        self.enc = SideStack(config, o, config.num_layers, False)
        self.dec = SideStack(config, o, config.num_decoder_layers, True)
        self.up = nn.Linear(d // o.reduction, d)
        self.merge = Merge(d) if o.merge == "gated" else None
        self.head = Head(d, o.classes) if o.head == "classification" else None

    def forward(self, rows, mask, tmask):
        """h [B, N, d], the input of the head, from the backbone's rows."""
        source = self.enc(rows["enc"], mask)
        up = self.up(self.dec(rows["dec"], tmask, source, mask))
        if self.options.merge == "none":
            return up
        return rows["final"] + up if self.merge is None else self.merge(rows["final"], up)


# ---- the frozen backbone, batches, losses ----


@torch.no_grad()
def backbone_rows(model, batch):
    """b_0..b_L of both stacks as the blocks leave them (before the stack's final norm), and both stacks' normed outputs."""
    rows, hooks = {}, []
    for name, stack in (("enc", model.encoder), ("dec", model.decoder)):
        rows[name] = []
        hooks.append(stack.block[0].register_forward_pre_hook(lambda _, args, out=rows[name]: out.append(args[0])))
        for block in stack.block:
            hooks.append(block.register_forward_hook(lambda _, args, y, out=rows[name]: out.append(y[0])))
    m = batch["mask"].long()
    rows["final_enc"] = model.encoder(input_ids=batch["ids"], attention_mask=m).last_hidden_state
    rows["final"] = model.decoder(input_ids=batch["tids"], encoder_hidden_states=rows["final_enc"],
                                  encoder_attention_mask=m, use_cache=False).last_hidden_state
    for hook in hooks:
        hook.remove()
    return rows


def lm_logits(model, h):
    scale = model.config.d_model**-0.5 if model.config.scale_decoder_outputs else 1.0
    return F.linear(h * scale, model.lm_head.weight)


def pad(sequences, value):
    n = max(len(s) for s in sequences)
    return torch.tensor([list(s) + [value] * (n - len(s)) for s in sequences])


def lengths_mask(sequences):
    return pad([[1] * len(s) for s in sequences], 0).bool()


def make_batch(sources, labels=None, start=0, filler=0):
    """Padded batch. Decoder inputs are the labels shifted right; without labels (classification head) the source's."""
    targets = sources if labels is None else labels
    shifted = [[start] + [filler if t == IGNORE else t for t in s[:-1]] for s in targets]
    return {"ids": pad(sources, filler), "mask": lengths_mask(sources), "tids": pad(shifted, filler),
            "tmask": lengths_mask(shifted), "labels": None if labels is None else pad(labels, IGNORE)}


def pack(x, mask):
    """[B, N, ...] padded to [rows, ...] packed."""
    return x[mask]


def lm_loss(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE)


def forward(model, side, rows, batch):
    """Padded token logits [B, N, V], or class logits [B, classes] from the decoder row of each sequence's last token."""
    h = side(rows, batch["mask"], batch["tmask"])
    if side.head is None:
        return lm_logits(model, h)
    return side.head(h[torch.arange(h.shape[0]), batch["tmask"].sum(1) - 1])


def loss_of(side, logits, batch):
    if side.head is None:
        return lm_loss(logits, batch["labels"])
    if side.options.classes == 1:
        return F.mse_loss(logits[:, 0], batch["value"])
    return F.cross_entropy(logits, batch["cls"])


@torch.no_grad()
def greedy(model, side, sources, max_new, start=0, eos=1):
    """Generated ids per sequence, the end token included; also the smallest lead of a chosen token over the second best."""
    out, lead = [], float("inf")
    for s in sources:
        made = []
        while len(made) < max_new and eos not in made:
            batch = make_batch([s], [made + [0]], start)
            rows = backbone_rows(model, batch)
            logits = lm_logits(model, rows["final"]) if side is None else forward(model, side, rows, batch)
            best = logits[0, -1].topk(2)
            lead = min(lead, (best.values[0] - best.values[1]).item())
            made.append(best.indices[0].item())
        out.append(made)
    return out, lead


def parameter_count(config, o):
    """Of the side network without its classification head."""
    with torch.device("meta"):
        return sum(p.numel() for n, p in SideNetwork(config, o).named_parameters() if not n.startswith("head."))
