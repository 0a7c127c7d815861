#!/usr/bin/env python3
"""Expected token ids for test_subword, from Hugging Face's tokenizers (not needed to run the tests).

    token_ids.py tiny                 train the small vocabularies cases/bpe and cases/wordpiece
    token_ids.py cases                rewrite cases/subword.jsonl: texts, pairs, truncation, decoded texts of the small vocabularies
    token_ids.py shared DIR BERT      print cases/shared_subword.txt: hashes of the ids on the GLUE files below DIR, of BART's
                                      vocabulary DIR/vocab/bart and of BERT's in the folder BERT (vocab.txt)

A hash is FNV-1a 64 over the ids as 32-bit little endian, each row closed by -1; `second` is hashed as one row.
"""
import csv, json, os, pathlib, sys

os.environ["HF_HUB_OFFLINE"] = "1"
import tokenizers, transformers
from spm_ids import FILES, TASKS, fnv

HERE = pathlib.Path(__file__).resolve().parent / "cases"
BART_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SENTENCES = [
    "The cat sat on the mat, and the other cats watched it from the hat stand.",
    "It's what they'll have said: we've done, I'm sure, what you'd asked for.",
    "Running, walking and talking are unaffordable in 1999, 2024 or 12345!",
    "Die Straße ist größer; un café à côté d'un hôtel. 中文 日本 Привет",
]


def tiny():
    bpe = tokenizers.ByteLevelBPETokenizer()
    bpe.train_from_iterator(SENTENCES * 2, vocab_size=380, min_frequency=2, special_tokens=BART_SPECIAL, show_progress=False)
    bpe.save_model(str(HERE / "bpe"))
    pieces = tokenizers.BertWordPieceTokenizer(lowercase=True)
    pieces.train_from_iterator(SENTENCES * 2, vocab_size=170, min_frequency=2, special_tokens=BERT_SPECIAL, show_progress=False)
    pieces.save_model(str(HERE / "wordpiece"))


def load(kind, folder):
    return (transformers.BartTokenizerFast if kind == "bpe" else transformers.BertTokenizerFast).from_pretrained(str(folder))


TEXTS = SENTENCES + [
    "", " ", "the", " the", "  the  cat", "the\tcat\n\nmat \r\n ", "THE CAT'S", "it's IT'S it’s", "a 12 b½ Ⅷ٣", "...!? --",
    "x\u00a0y\u2003z\u3000w\u180ev\u200bu\ufeff", "café caf\u0065\u0301 CAFÉ Ångström İstanbul", "中文字 日本語 한국어 の",
    "tab\u0001control\u007f\u0085next\ufffd", "👩‍👩‍👧 ok 😀", "<s> the </s> <mask> mat <pad>", "[CLS] the [SEP] [MASK] [mask] [UNK]x",
    "< s> [ CLS] ##at", "$5 ^2 `a` a_b", "t" * 100, "t" * 101, "the" * 33 + "t", "ab" * 60 + " the",
]
PAIRS = [
    (SENTENCES[0], SENTENCES[1]), (SENTENCES[1], SENTENCES[2]), ("the", SENTENCES[2]), (SENTENCES[0], "the cat"), ("", "the"),
    ("the", ""), ("the cat sat", "on the mat"),
]


def case(tok, kind, text, pair, most):
    e = tok([text], None if pair is None else [pair], truncation=True, max_length=most)  # a single pair "" would count as none
    types = e.get("token_type_ids", [[0]])[0]
    row = {"kind": kind, "text": text, "pair": pair, "max": most, "ids": e["input_ids"][0],
           "second": types.index(1) if 1 in types else 0}
    if pair is None and most > 1000:
        plain = tok(text, add_special_tokens=False)["input_ids"]
        row["plain"] = plain
        if kind == "bpe":
            row["decoded"] = tok.decode(plain, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return json.dumps(row)


def cases():
    with open(HERE / "subword.jsonl", "w") as out:
        for kind in ("bpe", "wordpiece"):
            tok = load(kind, HERE / kind)
            for text in TEXTS:
                for most in (4000, 7):
                    print(case(tok, kind, text, None, most), file=out)
            for a, b in PAIRS:
                for most in (4000, 40, 25, 24, 9, 5):
                    print(case(tok, kind, a, b, most), file=out)


def shared(folder, bert):
    root = pathlib.Path(folder)
    print("# kind task file max_source rows ids hash_of_sources hash_of_second (token_ids.py shared, transformers "
          f"{transformers.__version__}, tokenizers {tokenizers.__version__})")
    for kind, vocabulary in (("bpe", root / "vocab/bart"), ("wordpiece", bert)):
        tok = load(kind, vocabulary)
        for task, name in FILES[:4]:
            a, b = TASKS[task][:2]
            with open(root / "glue" / name, encoding="utf-8-sig", newline="") as f:
                rows = list(csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE))
            for most in (4096, 128, 25, 24):
                e = tok([r[a] for r in rows], [r[b] for r in rows] if b else None, truncation=True, max_length=most)
                ids = e["input_ids"]
                second = [t.index(1) if 1 in t else 0 for t in e.get("token_type_ids", [[0]] * len(ids))]
                print(kind, task, "glue/" + name, most, len(ids), sum(map(len, ids)), f"{fnv(ids):016x}", f"{fnv([second]):016x}")


if __name__ == "__main__":
    if sys.argv[1:] == ["tiny"]:
        tiny()
    elif sys.argv[1:] == ["cases"]:
        cases()
    elif len(sys.argv) == 4 and sys.argv[1] == "shared":
        shared(*sys.argv[2:])
    else:
        sys.exit(__doc__)
