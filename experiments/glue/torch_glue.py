"""The GLUE experiment in PyTorch: what pac's numbers are compared with.

Hugging Face's BERT with all-MiniLM-L6-v2's weights, PEFT's LoRA, and the side network built of Hugging Face's own layers. One run per
seed; the result is one JSON line, appended to --results. Protocol (README.md): batch 32, AdamW, 10 % warm-up, linear to 0, gradients
clipped to norm 1, no dropout, 3 epochs on MRPC and STS-B and 1 on SST-2 and QNLI, the whole training file, the last epoch's metrics on
the whole dev file. The classification head learns in every technique.

    python torch_glue.py GLUE MODEL TASK TECHNIQUE [--pairs separate] [--seeds 0 1 2] [--results torch.jsonl]

TASK is mrpc, stsb, sst2 or qnli; TECHNIQUE is full, lora, adapters or parallel.

Pairs joined: [CLS] A [SEP] B [SEP], the head is the pooler (dense, tanh on [CLS]) and a projection. Pairs separate: each sentence is a
sequence of its own, its mean u or v over the tokens; the head is a projection of [u, v, |u-v|, u*v] plus the cosine of u and v times a
constant: 5 for the regression, -2 and 2 for the two classes.
"""

import argparse
import copy
import json
import os
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional as F
from transformers import AutoTokenizer, BertModel, get_linear_schedule_with_warmup
from transformers.models.bert.modeling_bert import BertLayer

PART = 8  # rows that go through the model at once: a batch is cut into parts of like length, so that little of it is padding
REMEMBERED = 3 << 30  # bytes of a frozen model's activations that may be kept instead of computed in every epoch
BLOCKED = -1e9  # added to the scores of positions that must not be seen
GATE_TEMPERATURE = 0.1

# files, columns of the sentences and the label, how a label is read, outputs of the head, epochs
TASKS = {
    "mrpc": dict(folder="MRPC", texts=(3, 4), label=0, read=int, outputs=2, epochs=3),
    "stsb": dict(folder="STS-B", texts=(7, 8), label=9, read=float, outputs=1, epochs=3),
    "sst2": dict(folder="SST-2", texts=(0,), label=1, read=int, outputs=2, epochs=1),
    "qnli": dict(folder="QNLI", texts=(1, 2), label=3, read=lambda s: int(s == "entailment"), outputs=2, epochs=1),
}
# learning rates; parallel: joined, separate
RATES = {"full": 1e-4, "lora": 1e-3, "adapters": 1e-3, "parallel": 3e-3}
SPECIAL_RATES = {("sst2", "full"): 5e-5}


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("glue")
    p.add_argument("model")
    p.add_argument("task", choices=TASKS)
    p.add_argument("technique", choices=RATES)
    p.add_argument("--pairs", choices=("joined", "separate"), default="joined")
    p.add_argument("--seeds", type=int, nargs="+", default=[0])
    p.add_argument("--lr", type=float)
    p.add_argument("--epochs", type=int)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--reduction", type=int, default=8, help="k of the side network")
    p.add_argument("--rank", type=int, default=32, help="of LoRA; its scale is 1")
    p.add_argument("--width", type=int, default=24, help="of the bottleneck adapters")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--results", help="append the result to this file")
    o = p.parse_args()
    o.epochs = o.epochs or TASKS[o.task]["epochs"]
    if o.pairs == "separate" and len(TASKS[o.task]["texts"]) < 2:
        p.error(o.task + " has no pairs")
    if not o.lr:
        separate_side = o.technique == "parallel" and o.pairs == "separate"
        o.lr = 1e-3 if separate_side else SPECIAL_RATES.get((o.task, o.technique), RATES[o.technique])
    return o


def read_rows(folder, task, split):
    """(texts, label) of each row of GLUE's own files."""
    path = os.path.join(folder, task["folder"], split + ".tsv")
    if split == "train" and not os.path.exists(path):
        path = os.path.join(folder, task["folder"], "train_subset.tsv")
    with open(path, encoding="utf-8-sig") as f:
        lines = [line.rstrip("\n").split("\t") for line in f][1:]
    return [([cells[i] for i in task["texts"]], task["read"](cells[task["label"]])) for cells in lines]


class Rows:
    """One file, tokenized once. A separate pair is two sequences; a batch holds all first sentences, then all second ones."""

    def __init__(self, o, tokenizer, split):
        task = TASKS[o.task]
        rows = read_rows(o.glue, task, split)
        self.labels = torch.tensor([y for _, y in rows], dtype=torch.float if task["outputs"] == 1 else torch.long)
        texts = list(zip(*(t for t, _ in rows)))
        separate = o.pairs == "separate"
        encode = lambda *columns: tokenizer(*map(list, columns), truncation=True, max_length=128)
        self.sides = [encode(column) for column in texts] if separate else [encode(*texts)]
        self.lengths = torch.tensor([max(len(side["input_ids"][i]) for side in self.sides) for i in range(len(rows))])
        self.states = None  # of each sequence, [layers + 1, tokens, width]: remember()

    def __len__(self):
        return len(self.labels)

    @torch.no_grad()
    def remember(self, model):
        """Compute what a frozen model makes of every sequence, once for all epochs and seeds, if that fits in memory."""
        width = model.bert.config.hidden_size * (model.bert.config.num_hidden_layers + 1)
        if 4 * width * sum(len(ids) for side in self.sides for ids in side["input_ids"]) > REMEMBERED:
            return
        count, states = len(self), {}
        for part in self.parts(torch.arange(count)):
            hidden, mask = model.frozen(*self.batch(part)[0])
            places = [at * count + i for at in range(len(self.sides)) for i in part.tolist()]
            for place, rows, length in zip(places, torch.stack(hidden, 1), mask.sum(1)):
                states[place] = rows[:, :length].clone()
        self.states = [states[place] for place in range(len(states))]

    def parts(self, indices):
        """The rows of a batch, by length, a few at a time: the same sums as all at once, since no row sees another."""
        return indices[self.lengths[indices].argsort()].split(PART)

    def batch(self, indices):
        """What Classifier.forward() takes, and the labels."""
        pad = lambda rows: nn.utils.rnn.pad_sequence(rows, batch_first=True)
        column = lambda key: pad([torch.tensor(side[key][i]) for side in self.sides for i in indices])
        mask = column("attention_mask")
        if not self.states:
            return (column("input_ids"), column("token_type_ids"), mask), self.labels[indices]
        places = [at * len(self) + i for at in range(len(self.sides)) for i in indices.tolist()]
        states = pad([self.states[place].transpose(0, 1) for place in places])  # [rows, tokens, layers + 1, width]
        return (states.unbind(2), mask), self.labels[indices]


class Bottleneck(nn.Module):
    """Houlsby's adapter behind a linear layer: y + up(gelu(down(y))), Up almost zero at first."""

    def __init__(self, inner, width):
        super().__init__()
        self.inner = inner
        self.down = nn.Linear(inner.out_features, width)
        self.up = nn.Linear(width, inner.out_features)
        nn.init.normal_(self.up.weight, std=1e-3)
        nn.init.zeros_(self.up.bias)

    def forward(self, x):
        y = self.inner(x)
        return y + self.up(F.gelu(self.down(y), approximate="tanh"))


class SideNetwork(nn.Module):
    """Parallel adapters (merge add): a <- g a + (1 - g) down(b_i), then a small layer; Up(a) is added to the backbone's output."""

    def __init__(self, config, k, up_zero):
        super().__init__()
        small = copy.deepcopy(config)
        small.hidden_size, small.intermediate_size = config.hidden_size // k, config.intermediate_size // k
        linear = lambda: nn.Linear(config.hidden_size, small.hidden_size)
        self.first = linear()
        self.down = nn.ModuleList(linear() for _ in range(config.num_hidden_layers))
        self.layers = nn.ModuleList(BertLayer(small) for _ in range(config.num_hidden_layers))
        self.alpha = nn.Parameter(torch.zeros(config.num_hidden_layers))
        self.up = nn.Linear(small.hidden_size, config.hidden_size)
        if up_zero:
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)

    def forward(self, states, mask):
        blocked = (1.0 - mask[:, None, None, :].float()) * BLOCKED
        a = self.first(states[0])
        for i, layer in enumerate(self.layers):
            g = torch.sigmoid(self.alpha[i] / GATE_TEMPERATURE)
            a = layer(g * a + (1 - g) * self.down[i](states[i + 1]), blocked)
        return states[-1] + self.up(a)


class JoinedHead(nn.Module):
    """The checkpoint's pooler on [CLS], and a projection."""

    def __init__(self, bert, outputs):
        super().__init__()
        self.dense = copy.deepcopy(bert.pooler.dense)
        self.out = nn.Linear(bert.config.hidden_size, outputs)
        nn.init.normal_(self.out.weight, std=bert.config.initializer_range)
        nn.init.zeros_(self.out.bias)

    def forward(self, hidden, mask):
        return self.out(torch.tanh(self.dense(hidden[:, 0])))


class SeparateHead(nn.Module):
    """A projection of [u, v, |u-v|, u*v], and the cosine as a first guess."""

    def __init__(self, bert, outputs):
        super().__init__()
        self.out = nn.Linear(4 * bert.config.hidden_size, outputs)
        self.weight_of_cosine = torch.tensor([5.0] if outputs == 1 else [-2.0, 2.0])

    def forward(self, hidden, mask):
        mask = mask[..., None].float()
        u, v = ((hidden * mask).sum(1) / mask.sum(1)).chunk(2)
        return self.out(torch.cat([u, v, (u - v).abs(), u * v], 1)) + F.cosine_similarity(u, v)[:, None] * self.weight_of_cosine


class Classifier(nn.Module):
    def __init__(self, o):
        super().__init__()
        bert = BertModel.from_pretrained(o.model, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        separate = o.pairs == "separate"
        self.head = (SeparateHead if separate else JoinedHead)(bert, TASKS[o.task]["outputs"])
        bert.pooler = None
        bert.requires_grad_(o.technique == "full")
        self.side = SideNetwork(bert.config, o.reduction, up_zero=separate) if o.technique == "parallel" else None
        if o.technique == "lora":
            config = LoraConfig(r=o.rank, lora_alpha=o.rank, target_modules=["query", "value"])
            bert = get_peft_model(bert, config).base_model.model
        if o.technique == "adapters":
            for layer in bert.encoder.layer:
                layer.attention.output.dense = Bottleneck(layer.attention.output.dense, o.width)
                layer.output.dense = Bottleneck(layer.output.dense, o.width)
        self.bert = bert

    @torch.no_grad()
    def frozen(self, ids, types, mask):
        """What the side network reads: the states of all layers, and the mask."""
        out = self.bert(input_ids=ids, token_type_ids=types, attention_mask=mask, output_hidden_states=True)
        return out.hidden_states, mask

    def forward(self, *inputs):
        """Logits from (ids, types, mask), or, with a side network, from remembered (states, mask)."""
        if self.side is None:
            ids, types, mask = inputs
            hidden = self.bert(input_ids=ids, token_type_ids=types, attention_mask=mask).last_hidden_state
        else:
            states, mask = inputs if len(inputs) == 2 else self.frozen(*inputs)
            hidden = self.side(states, mask)
        return self.head(hidden, mask)


def correlation(a, b):
    return float(np.corrcoef(a, b)[0, 1])


def ranks(values):
    """Ranks from 0, equal values share their mean rank."""
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count) - 1
    return (last - (count - 1) / 2)[group]


@torch.no_grad()
def evaluate(model, rows, name):
    model.eval()
    parts = rows.parts(torch.arange(len(rows)))
    outputs = torch.cat([model(*rows.batch(part)[0]) for part in parts]).numpy()
    labels = rows.labels[torch.cat(parts)].numpy()
    if name == "stsb":
        guess = outputs[:, 0]
        return {"pearson": correlation(guess, labels), "spearman": correlation(ranks(guess), ranks(labels))}
    guess = outputs.argmax(1)
    result = {"accuracy": float((guess == labels).mean())}
    if name == "mrpc":
        result["f1"] = float(2 * ((guess == 1) & (labels == 1)).sum() / max(1, guess.sum() + labels.sum()))
    return result


def step(model, rows, indices):
    """Gradients of the mean loss of a batch; the loss."""
    total = 0.0
    for part in rows.parts(indices):
        inputs, labels = rows.batch(part)
        outputs = model(*inputs)
        losses = (outputs[:, 0] - labels) ** 2 if outputs.shape[1] == 1 else F.cross_entropy(outputs, labels, reduction="none")
        loss = losses.sum() / len(indices)
        loss.backward()
        total += loss.item()
    return total


def train(model, rows, o):
    """Seconds and the mean loss of the last epoch."""
    learning = [p for p in model.parameters() if p.requires_grad]
    steps = -(-len(rows) // o.batch) * o.epochs
    optimizer = torch.optim.AdamW(learning, o.lr, weight_decay=0.01 if o.technique == "full" else 0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, round(0.1 * steps), steps)
    began = time.time()
    model.train()
    for _ in range(o.epochs):
        order, losses = torch.randperm(len(rows)), []
        for at in range(0, len(order), o.batch):
            losses.append(step(model, rows, order[at : at + o.batch]))
            nn.utils.clip_grad_norm_(learning, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    return time.time() - began, sum(losses) / len(losses)


def run(o, seed, rows, dev):
    """Train and evaluate with one seed; the result as it is written."""
    torch.manual_seed(seed)
    model = Classifier(o)
    keys = ("task", "technique", "pairs", "lr", "epochs") + (("reduction",) if o.technique == "parallel" else ())
    result = {"seed": seed, **{key: getattr(o, key) for key in keys}}
    result["learning"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if o.technique == "parallel":
        for file in (rows, dev):
            if not file.states:
                file.remember(model)
    seconds, loss = train(model, rows, o)
    result.update(loss=round(loss, 4), seconds=round(seconds, 1), **evaluate(model, dev, o.task))
    return result


def main():
    o = options()
    torch.set_num_threads(o.threads)
    tokenizer = AutoTokenizer.from_pretrained(o.model)
    rows, dev = (Rows(o, tokenizer, split) for split in ("train", "dev"))
    for seed in o.seeds:
        line = json.dumps(run(o, seed, rows, dev))
        print(line, flush=True)
        if o.results:
            with open(o.results, "a", encoding="utf-8") as f:
                f.write(line + "\n")


if __name__ == "__main__":
    main()
