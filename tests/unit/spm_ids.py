#!/usr/bin/env python3
"""Expected token ids for test_tokenizer and test_tasks, from the SentencePiece Python package (not needed to run the tests).

    spm_ids.py cases            rewrite the ids and decoded texts of cases/tokenizer.txt (inputs are kept)
    spm_ids.py shared DIR       print cases/shared_ids.txt: hashes of T5's ids on the GLUE files below DIR

A hash is FNV-1a 64 over the ids as 32-bit little endian, each row closed by -1.
"""
import csv, pathlib, struct, sys
import sentencepiece

HERE = pathlib.Path(__file__).resolve().parent / "cases"


def varint(v):
    out = b""
    while v >= 0x80:
        out, v = out + bytes([v & 0x7F | 0x80]), v >> 7
    return out + bytes([v])


def field(number, body):
    return varint(number << 3 | 2) + varint(len(body)) + body


def tiny_model():
    model = b""
    for line in (HERE / "tiny_pieces.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        piece, score, kind = line.split()
        model += field(1, field(1, piece.encode()) + b"\x15" + struct.pack("<f", float(score)) + b"\x18" + varint(int(kind)))
    return model + field(2, b"\x18\x01") + field(3, field(1, b"identity") + field(2, b""))


def cases():
    sp = sentencepiece.SentencePieceProcessor(model_proto=tiny_model())
    path, out = HERE / "tokenizer.txt", []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            text = line.split("\t")[0]
            ids = sp.encode(text)
            shown = sp.decode([i for i in ids if i > 2])
            line = "\t".join([text, " ".join(map(str, ids)), shown])
        out.append(line)
    path.write_text("\n".join(out) + "\n")


def fnv(rows):
    h = 0xCBF29CE484222325
    for row in rows:
        for byte in struct.pack(f"<{len(row) + 1}i", *row, -1):
            h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def stsb_target(score):
    import numpy
    return "%.1f" % (numpy.round(numpy.float32(score) * numpy.float32(5)) / numpy.float32(5))


TASKS = {
    "mrpc": ("#1 String", "#2 String", "sentence1", "sentence2", "Quality", {"0": "not_equivalent", "1": "equivalent"}.get),
    "stsb": ("sentence1", "sentence2", "sentence1", "sentence2", "score", stsb_target),
    "sst2": ("sentence", None, "sentence", None, "label", {"0": "negative", "1": "positive"}.get),
    "qnli": ("question", "sentence", "question", "sentence", "label", str),
}
FILES = [("mrpc", "MRPC/dev.tsv"), ("stsb", "STS-B/dev.tsv"), ("sst2", "SST-2/dev.tsv"), ("qnli", "QNLI/dev.tsv"),
         ("mrpc", "MRPC/train.tsv"), ("stsb", "STS-B/train.tsv"), ("sst2", "SST-2/train.tsv")]


def cut(ids, most):
    return ids[: most - 1] + [1]


def shared(folder):
    root = pathlib.Path(folder)
    sp = sentencepiece.SentencePieceProcessor(model_file=str(root / "vocab/t5/spiece.model"))
    print("# task file max_source rows ids hash_of_sources hash_of_labels (spm_ids.py shared, sentencepiece "
          + sentencepiece.__version__ + ")")
    for task, name in FILES:
        a, b, key_a, key_b, gold, target = TASKS[task]
        with open(root / "glue" / name, encoding="utf-8-sig", newline="") as f:
            rows = list(csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE))
        texts = [f"{task} {key_a}: {r[a]}" + (f" {key_b}: {r[b]}" if b else "") for r in rows]
        sources, labels = sp.encode(texts), [cut(ids, 8) for ids in sp.encode([target(r[gold]) for r in rows])]
        for most in (4096, 64):
            kept = [cut(ids, most) for ids in sources]
            print(task, "glue/" + name, most, len(rows), sum(map(len, kept)), f"{fnv(kept):016x}", f"{fnv(labels):016x}")


if __name__ == "__main__":
    if sys.argv[1:] == ["cases"]:
        cases()
    elif len(sys.argv) == 3 and sys.argv[1] == "shared":
        shared(sys.argv[2])
    else:
        sys.exit(__doc__)
