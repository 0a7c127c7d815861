"""
Writes tests/golden/fixtures/t5v10 and t5v11: two small T5 models and what PyTorch computes with them (README.md describes
every file).

Reference values are computed in float64 from float32 parameters and stored as float32. The script checks itself: the
side network's block against Hugging Face's, padded against single sequences, the written models read back, published
parameter counts, and how far float32 training strays from float64 (so that the C tests' tolerances mean something).
"""
import json
import pathlib
import platform
import shutil
import sys
import numpy as np
import safetensors
import torch
import transformers
from safetensors.numpy import save_file
from transformers import T5Config, T5ForConditionalGeneration, T5ForSequenceClassification
from transformers.models.t5 import modeling_t5
import side_torch as st
from side_torch import SideOptions

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "fixtures"
STEPS, ADAMW_LR, SGD_LR, MAX_NEW = 10, 3e-3, 0.02, 6
SOURCE_LENGTHS, TARGET_LENGTHS = (5, 1, 27, 9), (3, 1, 2, 6)

MODELS = {
    "t5v10": dict(num_layers=2, num_decoder_layers=3, d_ff=40, feed_forward_proj="relu"),
    "t5v11": dict(num_layers=3, num_decoder_layers=2, d_ff=32, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
}
VARIANTS = {
    "t5v10": {
        "learned_all_none_lm": SideOptions(4, "learned", "none"),
        "none_all_add_lm": SideOptions(4, "none", "add"),
        "learned_list_gated_lm": SideOptions(4, "learned", "gated", [1, 3]),
        "none_list_add_cls": SideOptions(4, "none", "add", [2, 3], "classification", 3),
        "learned_all_none_reg": SideOptions(4, "learned", "none", None, "classification", 1),
    },
    "t5v11": {
        "none_all_none_lm": SideOptions(4, "none", "none"),
        "learned_list_add_lm": SideOptions(4, "learned", "add", [2, 3]),
        "none_all_gated_lm": SideOptions(4, "none", "gated"),
        "learned_all_gated_cls": SideOptions(4, "learned", "gated", None, "classification", 3),
        "none_list_none_reg": SideOptions(4, "none", "none", [1], "classification", 1),
    },
}
PUBLISHED = {  # method.md section 2: gate none, all layers, merge none
    "t5-small": (1183616, dict(d_model=512, d_ff=2048, num_layers=6, num_heads=8)),
    "t5-base": (5097216, dict(d_model=768, d_ff=3072, num_layers=12, num_heads=12)),
    "t5-large": (17718784, dict(d_model=1024, d_ff=4096, num_layers=24, num_heads=16)),
}


# ---- the models ----


def make_model(name):
    torch.manual_seed({"t5v10": 10, "t5v11": 11}[name])
    config = T5Config(vocab_size=64, d_model=32, d_kv=8, num_heads=3, decoder_start_token_id=0, **MODELS[name])
    config._attn_implementation = "eager"
    model = T5ForConditionalGeneration(config).eval()
    if not config.scale_decoder_outputs:  # transformers 5 ties every T5 when it makes one; v1.1 has a head of its own
        model.lm_head.weight = torch.nn.Parameter(torch.randn(64, 32) * 0.3)
    with torch.no_grad():
        model.lm_head.weight[1] *= 2.5  # the end token is likely enough for greedy generation to meet it
        for key, p in model.named_parameters():
            if "layer_norm" in key:
                p.uniform_(0.6, 1.4)
            elif "relative_attention_bias" in key:
                p.normal_(0, 0.7)
    return model.requires_grad_(False)


def save_model(model, name):
    """v1.0 as one file with the config that transformers 5 writes; v1.1 in shards with the published form of config."""
    path = OUT / name
    tied = model.config.scale_decoder_outputs
    model.save_pretrained(path, max_shard_size="10MB" if tied else "80KB")
    (path / "generation_config.json").unlink(missing_ok=True)
    if not tied:
        config = json.loads((path / "config.json").read_text())
        (path / "config_transformers5.json").write_text(json.dumps(config, indent=2) + "\n")
        del config["scale_decoder_outputs"], config["is_gated_act"], config["dense_act_fn"]
        config["tie_word_embeddings"] = False
        (path / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def norm_in_double(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


def double_model(name):
    """The model in float64; Hugging Face's norm takes its statistics in float32, so it is replaced first."""
    modeling_t5.T5LayerNorm.forward = norm_in_double
    return make_model(name).double()


# ---- batches ----


def sequences(model, lengths, rng):
    """Random tokens that end with the end token 1."""
    return [[*rng.integers(2, model.config.vocab_size, n - 1).tolist(), 1] for n in lengths]


def make_data(model, seed):
    rng = np.random.default_rng(seed)
    sources, labels = sequences(model, SOURCE_LENGTHS, rng), sequences(model, TARGET_LENGTHS, rng)
    labels[3][5] = st.IGNORE  # a label that does not count
    lm, cls = st.make_batch(sources, labels), st.make_batch(sources)
    cls["cls"] = torch.tensor([2, 0, 1, 2])
    cls["value"] = torch.tensor([0.5, 4.25, 2.0, 3.5])
    return {"sources": sources, "lm": lm, "classification": cls}


def offsets(mask):
    return np.concatenate([[0], np.cumsum(mask.sum(1).numpy())]).astype(np.int64)


def batch_arrays(batch, options=None):
    out = {"soff": offsets(batch["mask"]), "toff": offsets(batch["tmask"])}
    out["sids"] = st.pack(batch["ids"], batch["mask"]).numpy().astype(np.int32)
    out["tids"] = st.pack(batch["tids"], batch["tmask"]).numpy().astype(np.int32)
    out["labels"] = np.full(len(out["tids"]), st.IGNORE, np.int32)
    if batch["labels"] is not None:
        out["labels"] = st.pack(batch["labels"], batch["tmask"]).numpy().astype(np.int32)
    if options is not None and options.head == "classification":
        key = "value" if options.classes == 1 else "cls"
        out[key] = batch[key].numpy().astype(np.float32 if key == "value" else np.int32)
    return out


def ragged(name, lists):
    return {name + ".ids": np.array(sum(lists, []), np.int32),
            name + ".off": np.concatenate([[0], np.cumsum([len(x) for x in lists])]).astype(np.int64)}


def save(path, arrays):
    conv = {}
    for key, x in arrays.items():
        x = x.detach().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
        x = x.reshape(1) if x.ndim == 0 else x
        conv[key] = np.ascontiguousarray(x.astype(np.float32) if x.dtype == np.float64 else x)
    save_file(conv, path)


# ---- what is computed ----


def make_side(model, options, seed, dtype=torch.float64):
    """Every parameter random and none at a special value: gates are not 0, norms are not 1. Drawn in float32."""
    torch.manual_seed(seed)
    side = st.SideNetwork(model.config, options)
    with torch.no_grad():
        for key, p in side.named_parameters():
            if key.endswith("norm.weight"):
                p.uniform_(0.6, 1.4)
            elif key.endswith("gate"):
                p.normal_(0, 0.08)
            elif key.endswith(".bias"):
                p.normal_(0, 0.2)
            elif key.endswith("bias_table"):
                p.normal_(0, 0.7)
            else:
                p.normal_(0, p.shape[1] ** -0.5)
    return side.to(dtype)


def train(model, side, rows, batch, kind):
    p = side.parameters()
    if kind == "adamw":
        optimizer = torch.optim.AdamW(p, lr=ADAMW_LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, foreach=False)
    else:
        optimizer = torch.optim.SGD(p, lr=SGD_LR, foreach=False)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad(set_to_none=True)
        loss = st.loss_of(side, st.forward(model, side, rows, batch), batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, {k: v.detach().clone() for k, v in side.named_parameters()}


def backbone_file(model, data):
    batch = data["lm"]
    rows = st.backbone_rows(model, batch)
    logits = st.lm_logits(model, rows["final"])
    ids, lead = st.greedy(model, None, data["sources"], MAX_NEW)
    out = batch_arrays(batch) | ragged("greedy", ids)
    for stack, mask in (("enc", batch["mask"]), ("dec", batch["tmask"])):
        out |= {f"b.{stack}.{i}": st.pack(b, mask) for i, b in enumerate(rows[stack])}
    out["final.enc"] = st.pack(rows["final_enc"], batch["mask"])
    out["final.dec"] = st.pack(rows["final"], batch["tmask"])
    out["logits"] = st.pack(logits, batch["tmask"])
    out["loss"] = st.lm_loss(logits, batch["labels"])
    return out, ids, lead


def option_arrays(config, o):
    """The enums of pac/tune.h: gate, merge, head; and the layers that carry a side layer, numbered through the whole model."""
    gates, merges, heads = ("none", "learned"), ("none", "add", "gated"), ("lm", "classification")
    values = [gates.index(o.gate), merges.index(o.merge), heads.index(o.head), o.classes, o.reduction]
    has = [int(i in o.blocks(n)) for n in (config.num_layers, config.num_decoder_layers) for i in range(n)]
    return {"options": np.array(values, np.int32), "has_layer": np.array(has, np.int32)}


def variant_file(model, data, o, seed):
    batch = {k: v.double() if k == "value" else v for k, v in data[o.head].items()}
    rows = st.backbone_rows(model, batch)
    out = batch_arrays(batch, o) | option_arrays(model.config, o)
    out |= {"adamw.lr": np.float32(ADAMW_LR), "sgd.lr": np.float32(SGD_LR)}
    side = make_side(model, o, seed)
    out |= {k: v.detach().clone() for k, v in side.named_parameters()}
    logits = st.forward(model, side, rows, batch)
    loss = st.loss_of(side, logits, batch)
    loss.backward()
    out["logits"] = st.pack(logits, batch["tmask"]) if o.head == "lm" else logits
    out["loss"] = loss.detach()
    for key, p in side.named_parameters():
        assert p.grad is not None and p.grad.abs().max() > 0, key
        out["grad." + key] = p.grad
    out["lead"] = 1.0
    if o.head == "lm":
        ids, out["lead"] = st.greedy(model, side, data["sources"], MAX_NEW)
        out |= ragged("greedy", ids)
    for kind in ("adamw", "sgd"):
        losses, final = train(model, make_side(model, o, seed), rows, batch, kind)
        out[kind + ".losses"] = np.array(losses)
        out |= {f"{kind}.{k}": v for k, v in final.items()}
    return out


# ---- initialisation by pruning on weight magnitude (the rule is in README.md) ----


def keep(importance, n):
    """Indices of the n largest, ascending; of equals the lower index."""
    return np.sort(np.argsort(-importance, kind="stable")[:n])


def magnitude(model, k):
    w = {key: p.numpy().astype(np.float64) for key, p in model.state_dict().items()}
    c, out = model.config, {}
    stacks = {"enc": ("encoder", c.num_layers), "dec": ("decoder", c.num_decoder_layers)}

    def block(stack, i):
        """Our name -> the backbone's weight, for one block."""
        base = f"{stacks[stack][0]}.block.{i}.layer"
        attentions = {"self": (0, "SelfAttention")} | ({"cross": (1, "EncDecAttention")} if stack == "dec" else {})
        found = {f"{a}.{m}": w[f"{base}.{j}.{hf}.{m}.weight"] for a, (j, hf) in attentions.items() for m in "qkvo"}
        found |= {f"{a}.norm": w[f"{base}.{j}.layer_norm.weight"] for a, (j, _) in attentions.items()}
        last = len(attentions)
        for ours, hf in (("wi", "wi_0"), ("wg", "wi_1"), ("wo", "wo")) if c.is_gated_act else (("wi", "wi"), ("wo", "wo")):
            found["ff." + ours] = w[f"{base}.{last}.DenseReluDense.{hf}.weight"]
        return found | {"ff.norm": w[f"{base}.{last}.layer_norm.weight"]}

    select = {}
    for stack, (_, depth) in stacks.items():
        importance = np.zeros(c.d_model)
        for i in range(depth):
            for key, m in block(stack, i).items():
                if key.split(".")[1] in ("o", "wo"):
                    importance += np.abs(m).sum(1)
                elif m.ndim == 2 and key not in ("cross.k", "cross.v"):
                    importance += np.abs(m).sum(0)
        select[stack] = keep(importance, c.d_model // k)
        out["select." + stack] = select[stack].astype(np.int32)

    for stack, (hf, depth) in stacks.items():
        d = select[stack]
        for i in range(depth):
            b, name = block(stack, i), f"{stack}.{i}."
            for a in ("self", "cross") if stack == "dec" else ("self",):
                cols = {"q": d, "k": d if a == "self" else select["enc"], "v": d if a == "self" else select["enc"]}
                m = {x: b[f"{a}.{x}"][:, cols[x]] for x in "qkv"} | {"o": b[f"{a}.o"][d]}
                importance = sum(np.abs(m[x]).sum(1) for x in "qkv") + np.abs(m["o"]).sum(0)
                heads = importance.reshape(c.num_heads, c.d_kv)
                rows = np.concatenate([h * c.d_kv + keep(heads[h], c.d_kv // k) for h in range(c.num_heads)])
                out |= {f"{name}{a}.{x}.weight": m[x][rows] for x in "qkv"}
                out[f"{name}{a}.o.weight"] = m["o"][:, rows]
                out[f"{name}{a}.norm.weight"] = b[f"{a}.norm"][d]
            m = {x: b["ff." + x][:, d] for x in ("wi", "wg") if "ff." + x in b}
            wo = b["ff.wo"][d]
            rows = keep(sum(np.abs(x).sum(1) for x in m.values()) + np.abs(wo).sum(0), c.d_ff // k)
            out |= {f"{name}ff.{x}.weight": y[rows] for x, y in m.items()}
            out[name + "ff.wo.weight"] = wo[:, rows]
            out[name + "ff.norm.weight"] = b["ff.norm"][d]
        out[stack + ".norm.weight"] = w[f"{hf}.final_layer_norm.weight"][d]
        out[stack + ".bias_table"] = w[f"{hf}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    return out


# ---- the script checks itself ----


def check_counts():
    for name, (count, shape) in PUBLISHED.items():
        o = SideOptions(8, "none", "none")
        config = T5Config(d_kv=64, **shape)
        assert st.parameter_count(config, o) == count, name
        o.gate = "learned"
        assert st.parameter_count(config, o) == count + 2 * shape["num_layers"], name
        o.gate, o.merge = "none", "gated"
        assert st.parameter_count(config, o) == count + shape["d_model"], name


def check_stack(model, batch):
    """Our stack with k = 1 and the backbone's weights, first = identity, down = 0, is the backbone's stack."""
    c = model.config
    side = st.SideNetwork(c, SideOptions(1, "none", "none")).double()
    whole = {k: torch.tensor(v) for k, v in magnitude(model, 1).items()}  # pruning with k = 1 keeps everything, in order
    state = side.state_dict()
    state |= {k: torch.zeros_like(v) for k, v in state.items() if "down" in k or "first" in k}
    state |= {f"{s}.first.weight": torch.eye(c.d_model).double() for s in ("enc", "dec")}
    state |= {k: v for k, v in whole.items() if k in state}
    side.load_state_dict(state)
    rows = st.backbone_rows(model, batch)
    enc = side.enc(rows["enc"], batch["mask"])
    dec = side.dec(rows["dec"], batch["tmask"], enc, batch["mask"])
    for ours, theirs, mask in ((enc, rows["final_enc"], batch["mask"]), (dec, rows["final"], batch["tmask"])):
        assert (st.pack(ours, mask) - st.pack(theirs, mask)).abs().max() < 1e-10


def check_backbone(model, data):
    """Rows, head and loss against Hugging Face's own forward; the classification head against T5ForSequenceClassification."""
    batch = data["lm"]
    rows = st.backbone_rows(model, batch)
    got = model(input_ids=batch["ids"], attention_mask=batch["mask"].long(), decoder_input_ids=batch["tids"],
                labels=batch["labels"])
    logits = st.lm_logits(model, rows["final"])
    assert (logits - got.logits)[batch["tmask"]].abs().max() < 1e-10
    assert abs(st.lm_loss(logits, batch["labels"]) - got.loss) < 1e-10
    settings = {k: v for k, v in model.config.to_dict().items() if k not in ("id2label", "label2id")}
    config = T5Config(**settings, num_labels=3)
    config._attn_implementation = "eager"
    other = T5ForSequenceClassification(config).double().eval()
    other.transformer.load_state_dict({k: v for k, v in model.state_dict().items() if k != "lm_head.weight"})
    head, batch = st.Head(config.d_model, 3).double(), data["classification"]
    head.load_state_dict({k.replace("out_proj", "out"): v for k, v in other.classification_head.state_dict().items()})
    want = other(input_ids=batch["ids"], attention_mask=batch["mask"].long()).logits
    final = st.backbone_rows(model, batch)["final"]
    assert (head(final[torch.arange(4), batch["tmask"].sum(1) - 1]) - want).abs().max() < 1e-10


def check_saved(model, name, batch):
    """The directory as written, read by Hugging Face, is the same model."""
    loaded = T5ForConditionalGeneration.from_pretrained(OUT / name, attn_implementation="eager").double().eval()
    assert loaded.config.scale_decoder_outputs == model.config.scale_decoder_outputs
    logits = [st.lm_logits(m, st.backbone_rows(m, batch)["final"]) for m in (model, loaded)]
    assert torch.equal(*logits)


def check_padding(model, data, o, seed):
    """A sequence alone gives the rows that it gives in the padded batch."""
    side, batch = make_side(model, o, seed), data[o.head]
    rows = st.backbone_rows(model, batch)
    padded = st.forward(model, side, rows, batch)
    for i, source in enumerate(data["sources"]):
        labels = None if batch["labels"] is None else [batch["labels"][i][batch["tmask"][i]].tolist()]
        one = st.make_batch([source], labels)
        alone = st.forward(model, side, st.backbone_rows(model, one), one)[0]
        whole = padded[i][batch["tmask"][i]] if o.head == "lm" else padded[i]
        assert (alone - whole).abs().max() < 1e-10


def float32_distance(name, data, o, seed, wanted):
    """How far the same AdamW training in float32 ends from float64, as a part of the distance moved, in the worst tensor."""
    model = make_model(name)
    rows = st.backbone_rows(model, data[o.head])
    start = dict(make_side(model, o, seed, torch.float32).named_parameters())
    _, final = train(model, make_side(model, o, seed, torch.float32), rows, data[o.head], "adamw")
    return max((p - wanted["adamw." + key]).norm().item() / (p - start[key]).norm().item() for key, p in final.items())


def choose_data(model):
    """The first seed whose greedy generation both stops early and runs to the limit, with no near tie."""
    for seed in range(1000):
        data = make_data(model, seed)
        _, ids, lead = backbone_file(model, data)
        lengths = [len(x) for x in ids]
        if lead > 1e-2 and min(lengths) < MAX_NEW and max(lengths) == MAX_NEW:
            return data
    raise SystemExit("no data seed found")


def choose_side(name, model, data, o):
    """The first seed with no near tie in generation whose float32 training stays close (AdamW magnifies gradients near 0)."""
    for seed in range(100):
        out = variant_file(model, data, o, seed)
        worst = float32_distance(name, data, o, seed, out)
        if worst < 2e-5 and out.pop("lead") > 1e-2:
            return out, seed, worst
    raise SystemExit("no side seed found")


def bucket_file():
    r = torch.arange(-200, 201)
    bucket = modeling_t5.T5Attention._relative_position_bucket
    return {"r": r.numpy().astype(np.int32), "bidirectional": bucket(r, True, 32, 128).numpy().astype(np.int32),
            "causal": bucket(r, False, 32, 128).numpy().astype(np.int32)}


def main():
    torch.set_num_threads(1)
    check_counts()
    OUT.mkdir(exist_ok=True)
    save(OUT / "buckets.safetensors", bucket_file())
    for name in MODELS:
        shutil.rmtree(OUT / name, ignore_errors=True)
        (OUT / name).mkdir()
        save_model(make_model(name), name)
        model = double_model(name)
        data = choose_data(model)
        check_backbone(model, data)
        check_stack(model, data["lm"])
        check_saved(model, name, data["lm"])
        out, ids, _ = backbone_file(model, data)
        print(name, "greedy", ids)
        save(OUT / name / "backbone.safetensors", out)
        save(OUT / name / "magnitude.safetensors", magnitude(model, 4))
        for variant, o in VARIANTS[name].items():
            out, seed, strays = choose_side(name, model, data, o)
            check_padding(model, data, o, seed)
            save(OUT / name / f"{variant}.safetensors", out)
            losses = out["loss"], out["adamw.losses"][-1], out["sgd.losses"][-1]
            print(name, variant, "seed", seed, "loss %.4f -> adamw %.4f sgd %.4f" % losses, "float32 strays %.1e" % strays)
    versions = {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
                "safetensors": safetensors.__version__, "numpy": np.__version__}
    (OUT / "VERSIONS.txt").write_text("".join(f"{k} {v}\n" for k, v in versions.items()))


if __name__ == "__main__":
    sys.exit(main())
