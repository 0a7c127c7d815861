"""Make the demonstration model and data set from nothing: python data/make_demo.py

Writes data/demo/model (config.json, model.safetensors in float16, spiece.model) and data/demo/{train,dev}.jsonl. Needs torch, transformers,
sentencepiece and safetensors; reads nothing, fetches nothing. One thread and fixed seeds, so a second run on the same machine and versions gives the
same bytes. The world and its language are in demo_world.py; experiments/quickstart/measure.sh measures the transfer.
"""

import argparse
import io
import json
import math
import os
import random
import time

import sentencepiece as spm
import torch
from safetensors.torch import save_file
from transformers import T5Config, T5ForConditionalGeneration

import demo_world as world

PIECES, SENTINELS = 560, 16  # as T5: sentinels follow the pieces and are counted from the end
VOCAB = PIECES + SENTINELS
PAD, EOS, UNK = 0, 1, 2
SHAPE = dict(d_model=192, d_kv=32, d_ff=384, num_layers=3, num_decoder_layers=2, num_heads=4)
HOLES = 0.1  # share of the pre-training examples that fill holes; the rest add afterthoughts
TRAIN_ROWS, DEV_ROWS = 1500, 600
HERE = os.path.dirname(os.path.abspath(__file__))


def make_vocabulary(path):
    """A SentencePiece unigram vocabulary with T5's special ids, trained on the world's language and on unlabelled questions."""
    rng, words = random.Random(11), world.all_words()
    messages = [world.Message(rng, words) for _ in range(40000)]
    lines = [f"{m.text} {m.afterthought()}" for m in messages] + ["now", "later", "skip"] * 6000
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, model_type="unigram", vocab_size=PIECES, pad_id=PAD, eos_id=EOS,
                                   unk_id=UNK, bos_id=-1, pad_piece="<pad>", eos_piece="</s>", unk_piece="<unk>", character_coverage=1.0,
                                   required_chars="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?'\"()-",
                                   num_threads=1, minloglevel=2)
    with open(path, "wb") as f:
        f.write(model.getvalue())
    return spm.SentencePieceProcessor(model_proto=model.getvalue())


def corrupt(rng, ids):
    """T5's span corruption: about a quarter of the tokens in spans of one to four, each replaced by a sentinel; the target spells them out."""
    source, target, i, sentinel = [], [], 0, PIECES + SENTINELS - 1
    while i < len(ids):
        if rng.random() < 0.12 and sentinel >= PIECES:
            n = rng.randint(1, 4)
            source.append(sentinel)
            target += [sentinel] + ids[i:i + n]
            sentinel -= 1
            i += n
        else:
            source.append(ids[i])
            i += 1
    return source, target


def pair(rng, words, tokens, twisted):
    """One example of pre-training: a message with a hole in it, or what is added to a message. None of them speaks of urgency."""
    message = world.Message(rng, words, twisted=twisted)
    if rng.random() < HOLES:
        return corrupt(rng, tokens.encode(message.text))
    return tokens.encode(message.text), tokens.encode(message.afterthought())


def padded(rows, fill):
    width = max(map(len, rows)) + 1
    return torch.tensor([r + [EOS] + [fill] * (width - 1 - len(r)) for r in rows])


def pretrain(model, tokens, steps, batch, peak):
    """AdamW, linear warm-up over 5 % of the steps, then a cosine to zero."""
    rng, words = random.Random(21), world.all_words()
    model.train()
    opt = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0.01)
    lr = torch.optim.lr_scheduler.LambdaLR(opt, lambda s: min(1, (s + 1) / (0.05 * steps)) * 0.5 * (1 + math.cos(math.pi * s / steps)))
    start, mean, right = time.time(), 0.0, 0.0
    for step in range(1, steps + 1):
        twisted = min(1.0, max(0.0, (step / steps - 0.15) / 0.35))  # plain messages first: what a word means, then what the sentence does to it
        source, target = zip(*(pair(rng, words, tokens, twisted) for _ in range(batch)))
        ids = padded(source, PAD)
        labels = padded(target, -100)
        out = model(input_ids=ids, attention_mask=(ids != PAD).long(), labels=labels)
        loss = out.loss
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        lr.step()
        mean += loss.item()
        right += ((out.logits.argmax(-1) == labels) | (labels == -100)).all(1).float().mean().item()
        if step % 100 == 0:
            print(f"step {step}/{steps}  loss {mean / 100:.4f}  right {right / 100:.3f}  {time.time() - start:.0f} s", flush=True)
            mean = right = 0.0


def new_model():
    torch.manual_seed(31)
    return T5ForConditionalGeneration(T5Config(vocab_size=VOCAB, dropout_rate=0.0, feed_forward_proj="relu", tie_word_embeddings=True, pad_token_id=PAD,
                                               eos_token_id=EOS, decoder_start_token_id=PAD, **SHAPE))


def save_model(model, folder):
    """The Hugging Face layout with the names of the T5 v1.0 checkpoints; weights in float16."""
    state = {k: v.detach().half().contiguous() for k, v in model.state_dict().items()
             if k not in ("lm_head.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")}
    if not all(torch.isfinite(v).all() for v in state.values()):
        raise SystemExit("make_demo: a weight does not fit float16")
    path = os.path.join(folder, "model.safetensors")
    save_file(state, path, metadata={"format": "pt"})
    os.chmod(path, 0o644)
    config = dict(architectures=["T5ForConditionalGeneration"], model_type="t5", vocab_size=VOCAB, **SHAPE, feed_forward_proj="relu", dropout_rate=0.0,
                  layer_norm_epsilon=1e-6, relative_attention_num_buckets=32, relative_attention_max_distance=128, tie_word_embeddings=True,
                  is_encoder_decoder=True, pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=PAD)
    with open(os.path.join(folder, "config.json"), "w") as f:
        f.write(json.dumps(config, indent=2) + "\n")


def save_rows(rows, path):
    with open(path, "w") as f:
        f.writelines(json.dumps(r) + "\n" for r in rows)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--out", default=os.path.join(HERE, "demo"))
    p.add_argument("--steps", type=int, default=2000)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--lr", type=float, default=1e-3)
    a = p.parse_args()
    torch.set_num_threads(1)
    folder = os.path.join(a.out, "model")
    os.makedirs(folder, exist_ok=True)

    shown, held_out = world.split_words(seed=41)
    save_rows(world.rows(TRAIN_ROWS, shown, seed=42), os.path.join(a.out, "train.jsonl"))
    save_rows(world.rows(DEV_ROWS, held_out, seed=43), os.path.join(a.out, "dev.jsonl"))
    tokens = make_vocabulary(os.path.join(folder, "spiece.model"))
    model = new_model()
    print(f"{sum(q.numel() for q in model.parameters())} parameters, {tokens.get_piece_size()} pieces", flush=True)
    pretrain(model, tokens, a.steps, a.batch, a.lr)
    save_model(model, folder)


if __name__ == "__main__":
    main()
