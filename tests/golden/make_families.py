"""
Writes fixtures/tiny/<family>/backbone.safetensors: rows, logits and gradients of the frozen-backbone code path for BART, BERT
and DistilBERT as Hugging Face computes them with the models of make_techniques.py (run that first; README.md describes the file).

Every sequence is computed alone, without padding, in float64. The gradients are of sum(final rows * dfinal), and for BART of the
mean token loss.
"""
import json
import pathlib
import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import BartForConditionalGeneration, BertModel, DistilBertModel

OUT = pathlib.Path(__file__).resolve().parent / "fixtures" / "tiny"
KEY_BIASES = (".k_proj.bias", ".key.bias", ".k_lin.bias")  # shifting all scores of a query changes nothing
IGNORE = -100


def offsets(pieces):
    return np.concatenate([[0], np.cumsum([len(p) for p in pieces])]).astype(np.int64)


def flat(pieces, kind=np.int32):
    return np.concatenate([np.asarray(p) for p in pieces]).astype(kind)


def named_gradients(model, prefix):
    out = {}
    for name, p in model.named_parameters():
        if p.grad is None:
            continue
        g = np.zeros(p.shape) if name.endswith(KEY_BIASES) else p.grad.numpy()
        out["grad." + prefix + name] = g.astype(np.float32)
    return out


def stacked(hidden):
    """[sequence][layer] of [1, n, d] -> [layer] of [rows, d] in float32"""
    return [torch.cat([h[i][0] for h in hidden]).detach().numpy().astype(np.float32) for i in range(len(hidden[0]))]


def bart():
    model = BartForConditionalGeneration.from_pretrained(OUT / "bart", attn_implementation="eager").double().eval()
    rng = np.random.default_rng(21)
    words = lambda n: rng.integers(3, 52, n).tolist()
    sources = [[0, *words(n), 2] for n in (4, 1, 30, 6)]  # 32 positions: the longest uses all
    labels = [[0, *words(n), 2] for n in (3, 1, 30, 5)]
    labels[0][2] = IGNORE  # the input behind it is padding
    targets = [[2, *(1 if i == IGNORE else i for i in l[:-1])] for l in labels]
    outs = [model(input_ids=torch.tensor([s]), decoder_input_ids=torch.tensor([t]), output_hidden_states=True)
            for s, t in zip(sources, targets)]
    logits = torch.cat([o.logits[0] for o in outs])
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(flat(labels, np.int64)), ignore_index=IGNORE)
    loss.backward()
    out = {"soff": offsets(sources), "sids": flat(sources), "toff": offsets(targets), "tids": flat(targets), "labels": flat(labels)}
    for stack, key in (("enc", "encoder_hidden_states"), ("dec", "decoder_hidden_states")):
        rows = stacked([getattr(o, key) for o in outs])
        out |= {f"b.{stack}.{i}": r for i, r in enumerate(rows)} | {f"final.{stack}": rows[-1]}
    out |= {"logits": logits.detach().numpy().astype(np.float32), "loss": np.array([loss.item()], np.float32)}
    return out | named_gradients(model, "")


def encoder(kind, name, prefix):
    """Two samples of one sequence, with types 0 and 1 where the family has them, and one of two sequences apart."""
    model = kind.from_pretrained(OUT / name, attn_implementation="eager").double().eval()
    rng = np.random.default_rng(22)
    most = json.loads((OUT / name / "config.json").read_text())["max_position_embeddings"]
    words = lambda n: rng.integers(4, 52, n).tolist()
    pairs = [([2, *words(4), 3], [*words(3), 3]), ([2, *words(most - 4), 3], [*words(1), 3])]
    apart = ([2, *words(2), 3], [2, *words(5), 3])
    sources = [a + b for a, b in pairs] + list(apart)
    types = [[0] * len(a) + [1] * len(b) for a, b in pairs] + [[0] * len(s) for s in apart]
    hidden = []
    for s, t in zip(sources, types):
        more = {"token_type_ids": torch.tensor([t])} if name == "bert" else {}
        hidden.append(model(input_ids=torch.tensor([s]), output_hidden_states=True, **more).hidden_states)
    final = torch.cat([h[-1][0] for h in hidden])
    dfinal = torch.tensor(rng.standard_normal(final.shape).astype(np.float32))
    (final * dfinal.double()).sum().backward()
    rows = stacked(hidden)
    aoff = offsets(sources)
    out = {"soff": aoff[[0, 1, 2, 4]], "aoff": aoff, "sids": flat(sources), "stypes": flat(types), "toff": np.zeros(4, np.int64)}
    out |= {f"b.enc.{i}": r for i, r in enumerate(rows)} | {"final.enc": rows[-1], "dfinal": dfinal.numpy()}
    return out | named_gradients(model, prefix)


def main():
    torch.set_num_threads(1)
    files = {"bart": bart(), "bert": encoder(BertModel, "bert", ""),
             "distilbert": encoder(DistilBertModel, "distilbert", "distilbert.")}
    for name, tensors in files.items():
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, OUT / name / "backbone.safetensors")
        print(name, sum(v.nbytes for v in tensors.values()), "bytes")


if __name__ == "__main__":
    main()
