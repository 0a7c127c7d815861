"""
Every technique on every family, stated in PyTorch: the reference that the C code is held against (T5's side network:
side_torch.py).

The backbone is Hugging Face's model, LoRA is PEFT's. Written out here: Houlsby adapters (hung on the linear that ends a
sub-layer, so before its residual), the side network of post-norm families, the heads. Batches are padded and masked; the
rows that the masks keep are the rows of our packed batches, in the same order. Parameters carry the C code's names.
"""
import copy
import dataclasses
import peft
import torch
import torch.nn.functional as F
from torch import nn
import transformers
from transformers.models.t5 import modeling_t5
import side_torch as st

VOCAB, WIDTH, HEADS, INNER, POSITIONS, BLOCKS = 52, 16, 2, 24, 32, 2


@dataclasses.dataclass
class Variant:
    technique: str  # full | adapters | lora | parallel
    head: str = "lm"  # lm | classification
    classes: int = 0  # 1: regression
    size: int = 4  # width of the adapters, rank, or the reduction of the side network
    alpha: int = 8  # LoRA's scale is alpha / rank
    gate: str = "none"
    merge: str = "none"
    layers: list | None = None
    separate: bool = False  # the two sentences of a sample are sequences of their own

    def blocks(self, depth):
        return [i for i in range(depth) if self.layers is None or i + 1 in self.layers]


# ---- families ----


@dataclasses.dataclass
class Family:
    model: type
    config: dict
    lora: tuple  # what PEFT looks for: q and v of every attention
    stacks: dict  # our stack -> where its blocks are
    ends: dict  # our stack -> the linear that ends self-attention, and the feed-forward's
    start: int = 0
    filler: int = 0
    act: str = "tanh"  # of the classification head


def t5(**more):
    config = dict(vocab_size=VOCAB, d_model=WIDTH, d_kv=4, num_heads=3, d_ff=INNER, num_layers=BLOCKS,
                  num_decoder_layers=BLOCKS, relative_attention_num_buckets=8, relative_attention_max_distance=20,
                  decoder_start_token_id=0)
    return Family(transformers.T5ForConditionalGeneration, config | more, ("q", "v"),
                  {"enc": "encoder.block", "dec": "decoder.block"},
                  {"enc": ("layer.0.SelfAttention.o", "layer.1.DenseReluDense.wo"),
                   "dec": ("layer.0.SelfAttention.o", "layer.2.DenseReluDense.wo")})


FAMILIES = {
    "t5v10": t5(feed_forward_proj="relu"),
    "t5v11": t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "bart": Family(
        transformers.BartForConditionalGeneration,
        dict(vocab_size=VOCAB, d_model=WIDTH, encoder_layers=BLOCKS, decoder_layers=BLOCKS, encoder_attention_heads=HEADS,
             decoder_attention_heads=HEADS, encoder_ffn_dim=INNER, decoder_ffn_dim=INNER, max_position_embeddings=POSITIONS,
             activation_function="gelu", scale_embedding=True, pad_token_id=1, bos_token_id=0, eos_token_id=2,
             decoder_start_token_id=2, forced_eos_token_id=2),
        ("q_proj", "v_proj"), {"enc": "model.encoder.layers", "dec": "model.decoder.layers"},
        {"enc": ("self_attn.out_proj", "fc2"), "dec": ("self_attn.out_proj", "fc2")}, start=2, filler=1),
    "bert": Family(
        transformers.BertModel,
        dict(vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=BLOCKS, num_attention_heads=HEADS, intermediate_size=INNER,
             max_position_embeddings=POSITIONS, type_vocab_size=2, pad_token_id=0),
        ("query", "value"), {"enc": "encoder.layer"}, {"enc": ("attention.output.dense", "output.dense")}),
    "distilbert": Family(
        transformers.DistilBertForSequenceClassification,
        dict(vocab_size=VOCAB, dim=WIDTH, n_layers=BLOCKS, n_heads=HEADS, hidden_dim=INNER, max_position_embeddings=POSITIONS,
             pad_token_id=0),
        ("q_lin", "v_lin"), {"enc": "distilbert.transformer.layer"}, {"enc": ("attention.out_lin", "ffn.lin2")}, act="relu"),
}
HEADS_OF_CHECKPOINTS = ("pooler.", "pre_classifier.", "classifier.")  # not the backbone's


def randomise(model):
    """No parameter at a special value, so that every gradient is away from 0."""
    for key, p in model.named_parameters():
        norm = "norm" in key.lower()
        if norm and key.endswith("weight"):
            p.uniform_(0.6, 1.4)
        elif key.endswith("bias"):
            p.normal_(0, 0.2)
        elif "relative_attention_bias" in key or "position" in key or "token_type" in key:
            p.normal_(0, 0.7)
        elif "embed" in key or "shared" in key or "lm_head" in key:
            p.normal_(0, 0.4)
        elif "SelfAttention.q" in key or "EncDecAttention.q" in key:
            p.normal_(0, 0.5 * p.shape[1] ** -0.5)
        else:
            p.normal_(0, p.shape[1] ** -0.5)


def make_model(name, seed=0):
    """Float32, frozen."""
    family = FAMILIES[name]
    torch.manual_seed(seed)
    config = family.model.config_class(**family.config)
    config._attn_implementation = "eager"
    model = family.model(config).eval()
    if name == "t5v11":  # transformers 5 ties every T5 when it makes one; v1.1 has a head of its own
        model.lm_head.weight = nn.Parameter(torch.empty(VOCAB, WIDTH))
    with torch.no_grad():
        randomise(model)
        if name == "bart":
            model.final_logits_bias.normal_(0, 0.5)
    return model.requires_grad_(False)


def norm_in_any_type(self, x):
    """Hugging Face takes the statistics in float32; we want them in the type of x."""
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


modeling_t5.T5LayerNorm.forward = norm_in_any_type


# ---- rows ----


def states(model, batch):
    """Hidden states of each stack: [b_0, ..., b_L] (T5's last one normed), and the input of the head, `final`."""
    name, mask = model.config.model_type, batch["mask"].long()
    settings = dict(output_hidden_states=True, return_dict=True)
    if name in ("bert", "distilbert"):
        types = {"token_type_ids": batch["types"]} if name == "bert" else {}
        inner = model if name == "bert" else model.distilbert
        enc = inner(input_ids=batch["ids"], attention_mask=mask, **types, **settings)
        return {"enc": enc.hidden_states, "final": enc.last_hidden_state}
    inner = model.model if name == "bart" else model
    enc = inner.encoder(input_ids=batch["ids"], attention_mask=mask, **settings)
    dec = inner.decoder(input_ids=batch["tids"], encoder_hidden_states=enc.last_hidden_state, encoder_attention_mask=mask,
                        use_cache=False, **settings)
    return {"enc": enc.hidden_states, "dec": dec.hidden_states, "final": dec.last_hidden_state}


def lm_logits(model, h):
    if model.config.model_type == "bart":
        return model.lm_head(h) + model.final_logits_bias
    return st.lm_logits(model, h)


# ---- adapters ----


class Bottleneck(nn.Module):
    """Houlsby et al. 2019: f + up(gelu_new(down(f)))."""

    def __init__(self, width, inner):
        super().__init__()
        self.down, self.up = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, f):
        return f + self.up(F.gelu(self.down(f), approximate="tanh"))


def hang_adapters(model, family, width):
    found = {}
    for stack, where in family.stacks.items():
        for i in range(BLOCKS):
            for ours, end in zip(("self_adapter", "ff_adapter"), family.ends[stack]):
                adapter = Bottleneck(WIDTH, width)
                linear = model.get_submodule(f"{where}.{i}.{end}")
                linear.register_forward_hook(lambda _, args, y, adapter=adapter: adapter(y))
                found |= {f"{stack}.{i}.{ours}.{key}": p for key, p in adapter.named_parameters()}
    return found


# ---- the side network of BART, BERT and DistilBERT ----


class Attention(nn.Module):
    """norm(x + o(softmax((K/k)^-1/2 q k^T) v)), k and v of x or of `source`."""

    def __init__(self, width, heads, inner, eps):
        super().__init__()
        self.heads, self.scale = heads, (inner // heads) ** -0.5
        self.q, self.k, self.v = (nn.Linear(width, inner) for _ in range(3))
        self.o = nn.Linear(inner, width)
        self.norm = nn.LayerNorm(width, eps)

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x, bias, source=None):
        s = x if source is None else source
        scores = self.scale * self.split(self.q(x)) @ self.split(self.k(s)).transpose(2, 3) + bias
        y = scores.softmax(-1) @ self.split(self.v(s))
        return self.norm(x + self.o(y.transpose(1, 2).flatten(2)))


class FeedForward(nn.Module):
    def __init__(self, width, inner, eps):
        super().__init__()
        self.wi, self.wo, self.norm = nn.Linear(width, inner), nn.Linear(inner, width), nn.LayerNorm(width, eps)

    def forward(self, x):
        return self.norm(x + self.wo(F.gelu(self.wi(x))))


class SideLayer(nn.Module):
    def __init__(self, v, cross, eps):
        super().__init__()
        width, inner = WIDTH // v.size, HEADS * (WIDTH // HEADS // v.size)
        self.down = nn.Linear(WIDTH, width)
        self.gate = nn.Parameter(torch.zeros(1)) if v.gate == "learned" else None
        self.add_module("self", Attention(width, HEADS, inner, eps))
        self.cross = Attention(width, HEADS, inner, eps) if cross else None
        self.ff = FeedForward(width, INNER // v.size, eps)

    def block(self, a, bias, source, source_bias):
        a = self.get_submodule("self")(a, bias)
        if self.cross is not None:
            a = self.cross(a, source_bias, source)
        return self.ff(a)

    def forward(self, a, b, *rest):
        if self.gate is None:
            a = a + self.down(b)
        else:
            g = torch.sigmoid(self.gate / st.TEMPERATURE)
            a = g * a + (1 - g) * self.down(b)
        return self.block(a, *rest)


class SideStack(nn.Module):
    """a_0 = first(b_0), a_i = f_i(b_i, a_{i-1}); no norm behind the last block, as these families have none."""

    def __init__(self, v, decoder, eps):
        super().__init__()
        self.decoder, self.blocks = decoder, v.blocks(BLOCKS)
        self.first = nn.Linear(WIDTH, WIDTH // v.size)
        for i in self.blocks:
            self.add_module(str(i), SideLayer(v, decoder, eps))

    def forward(self, b, mask, source=None, source_mask=None):
        bias, source_bias = attention_bias(self.decoder, b[0].dtype, mask, source_mask)
        a = self.first(b[0])
        for i in self.blocks:
            a = self.get_submodule(str(i))(a, b[i + 1], bias, source, source_bias)
        return a


def attention_bias(decoder, dtype, mask, source_mask):
    n = mask.shape[1]
    seen = mask[:, None, None, :]
    if decoder:
        seen = seen & torch.ones(n, n, dtype=torch.bool).tril()
    return st.mask_bias(seen, dtype), None if source_mask is None else st.mask_bias(source_mask[:, None, None, :], dtype)


class SideNetwork(nn.Module):
    def __init__(self, v, stacks, eps):
        super().__init__()
        self.how = v.merge
        self.enc = SideStack(v, False, eps)
        self.dec = SideStack(v, True, eps) if "dec" in stacks else None
        self.up = nn.Linear(WIDTH // v.size, WIDTH)
        self.merge = st.Merge(WIDTH) if v.merge == "gated" else None

    def forward(self, rows, batch):
        a = self.enc(rows["enc"], batch["mask"])
        if self.dec is not None:
            a = self.dec(rows["dec"], batch["tmask"], a, batch["mask"])
        up = self.up(a)
        if self.how == "none":
            return up
        return rows["final"] + up if self.merge is None else self.merge(rows["final"], up)


def norm_eps(model):
    return next(m.eps for m in model.modules() if isinstance(m, nn.LayerNorm))


# ---- heads ----


class Head(nn.Module):
    """Classification: dense, tanh (DistilBERT: relu), projection."""

    def __init__(self, classes, act):
        super().__init__()
        self.dense, self.out, self.act = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, classes), getattr(torch, act)

    def forward(self, h):
        return self.out(self.act(self.dense(h)))

    def kink(self, h):
        """What has a kink at 0 (with relu)."""
        return self.dense(h)


class PairHead(nn.Module):
    """Features [u, v, |u-v|, u*v] of two sentences, projected, and the cosine: 5 cos (a score), -+2 cos (two classes)."""

    def __init__(self, classes):
        super().__init__()
        self.out, self.cosine = nn.Linear(4 * WIDTH, classes), {1: [5.0], 2: [-2.0, 2.0]}.get(classes)

    def forward(self, u, v):
        y = self.out(torch.cat([u, v, (u - v).abs(), u * v], 1))
        if self.cosine is None:
            return y
        return y + F.cosine_similarity(u, v)[:, None] * torch.tensor(self.cosine, dtype=y.dtype)

    def kink(self, u, v):
        return u - v


def head_row(model, h, batch):
    """[CLS]; or the last token of the decoder, where the source, shifted right, has its last end of sequence."""
    if "tmask" not in batch:
        return h[:, 0]
    return h[torch.arange(h.shape[0]), batch["tmask"].sum(1) - 1]


def mean_rows(h, mask):
    return (h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


# ---- a model with a technique ----


class Tuned:
    """`params`: what learns, by our names, in float32 drawn from `seed`, then in `dtype`."""

    def __init__(self, model, v, seed, dtype):
        name = model.config.model_type
        family = next(f for f in FAMILIES.values() if isinstance(model, f.model))
        self.model, self.v, self.params, self.side = copy.deepcopy(model), v, {}, None
        torch.manual_seed(seed)
        if v.technique == "full":
            self.params |= self.learn_all()
        elif v.technique == "lora":
            self.params |= self.learn_lora(family)
        elif v.technique == "adapters":
            self.params |= drawn(hang_adapters(self.model, family, v.size))
        else:
            assert name != "t5", "T5's side network: make_golden.py"
            self.side = SideNetwork(v, family.stacks, norm_eps(model))
            self.params |= drawn(dict(self.side.named_parameters()))
        self.head = None
        if v.head == "classification":
            self.head = PairHead(v.classes) if v.separate else Head(v.classes, family.act)
            self.params |= drawn({"head." + key: p for key, p in self.head.named_parameters()})
            self.take_pooler(name)
        self.watch_kinks(name)
        self.model.to(dtype)
        for p in self.params.values():
            p.data = p.data.to(dtype)
            p.requires_grad_(True)

    def learn_all(self):
        found = {k: p for k, p in self.model.named_parameters() if not k.startswith(HEADS_OF_CHECKPOINTS)}
        if self.v.head != "lm":
            found.pop("lm_head.weight", None)
        return found

    def learn_lora(self, family):
        config = peft.LoraConfig(r=self.v.size, lora_alpha=self.v.alpha, target_modules=list(family.lora), lora_dropout=0.0)
        wrapped = peft.get_peft_model(self.model, config)  # changes self.model itself
        self.model = wrapped.base_model.model
        found = {k.removeprefix("base_model.model.").replace(".default", ""): p for k, p in wrapped.named_parameters()
                 if "lora_" in k}
        return drawn(found)

    def take_pooler(self, name):
        """The head's first layer starts as the checkpoint's, where it has one."""
        found = {"bert": "pooler.dense", "distilbert": "pre_classifier"}.get(name)
        if found is not None and not self.v.separate:
            dense = self.model.get_submodule(found)
            self.head.dense.weight.data.copy_(dense.weight)
            self.head.dense.bias.data.copy_(dense.bias)

    def watch_kinks(self, name):
        """`nearest`: how near to a kink (relu, |u - v|) a pass ever came. Rounding must not decide on which side it is."""
        self.nearest = float("inf")

        def look(x):
            self.nearest = min(self.nearest, x.detach().abs().min().item())

        if name == "t5" and self.model.config.dense_act_fn == "relu":
            for key, m in self.model.named_modules():
                if key.endswith("DenseReluDense.wi"):
                    m.register_forward_hook(lambda _, args, y: look(y))
        if self.head is not None and (self.v.separate or self.head.act == torch.relu):
            self.head.register_forward_hook(lambda m, args, _: look(m.kink(*args)))

    def logits(self, batch):
        """Padded token logits [B, N, V], or [B, classes]."""
        if self.side is None:
            h = states(self.model, batch)["final"]
        else:
            with torch.no_grad():
                rows = states(self.model, batch)
            h = self.side(rows, batch)
        if self.head is None:
            return lm_logits(self.model, h)
        if self.v.separate:
            pooled = mean_rows(h, batch["mask"])
            return self.head(pooled[0::2], pooled[1::2])
        return self.head(head_row(self.model, h, batch))

    def loss(self, logits, batch):
        if self.head is None:
            return st.lm_loss(logits, batch["labels"])
        if self.v.classes == 1:
            return F.mse_loss(logits[:, 0], batch["value"].to(logits.dtype))
        return F.cross_entropy(logits, batch["cls"])


def drawn(params):
    with torch.no_grad():
        for key, p in params.items():
            if key.endswith("norm.weight"):
                p.uniform_(0.6, 1.4)
            elif key.endswith("gate"):
                p.normal_(0, 0.08)
            elif key.endswith("bias"):
                p.normal_(0, 0.2)
            else:
                p.normal_(0, p.shape[1] ** -0.5)
    return params
