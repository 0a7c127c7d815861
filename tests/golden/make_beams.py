"""
Writes fixtures/beams/<model>.jsonl: what Hugging Face's beam search (4 beams, length_penalty 1, early_stopping False, nothing
forced or forbidden) answers, one source a line: {"end", "input_ids", "output_ids", "score"}; score = sum of log p / length.
end: the id that ends an answer here (config.json's eos_token_id is replaced by it: answers of random models seldom end with their own).

    python3 make_beams.py           the models of fixtures/
    python3 make_beams.py SHARED    us-bart: fixtures/beams/us-bart.jsonl without the sources, which are the first rows of
                                    SHARED/pronounce/dev.jsonl

Computed in float64. A source whose answer in float32 differs is left out: rounding would decide. output_ids lack the start token.
"""
import json
import pathlib
import sys
import numpy as np
import torch
from transformers import AutoModelForSeq2SeqLM, GenerationConfig

HERE = pathlib.Path(__file__).resolve().parent / "fixtures"
BEAMS, ROWS = 4, 40


def answer(model, source, max_new, end):
    c = model.config
    config = GenerationConfig(num_beams=BEAMS, max_new_tokens=max_new, do_sample=False, use_cache=False, length_penalty=1.0, early_stopping=False,
                              eos_token_id=end, pad_token_id=c.pad_token_id, bos_token_id=getattr(c, "bos_token_id", None),
                              decoder_start_token_id=c.decoder_start_token_id, return_dict_in_generate=True, output_scores=True)
    model.generation_config = config
    out = model.generate(torch.tensor([source]), attention_mask=torch.ones(1, len(source), dtype=torch.long))
    n = int((out.beam_indices[0] >= 0).sum())
    return out.sequences[0, 1:1 + n].tolist(), float(out.sequences_scores[0])


def rows_of(path, sources, max_new, end):
    model = {t: AutoModelForSeq2SeqLM.from_pretrained(path, dtype=t).eval() for t in (torch.float64, torch.float32)}
    for source in sources:
        ids, score = answer(model[torch.float64], source, max_new, end)
        if answer(model[torch.float32], source, max_new, end)[0] == ids:
            yield {"end": end, "input_ids": source, "output_ids": ids, "score": round(score, 7)}


def write(name, rows):
    (HERE / "beams").mkdir(exist_ok=True)
    (HERE / "beams" / f"{name}.jsonl").write_text("".join(json.dumps(r, separators=(",", ":")) + "\n" for r in rows))
    lengths = [len(r["output_ids"]) for r in rows]
    print(name, len(rows), "rows of", min(lengths), "to", max(lengths), "tokens")


def tiny(path, seed, max_new, end):
    config = json.loads((HERE / path / "config.json").read_text())
    rng = np.random.default_rng(seed)
    sources = [[*rng.integers(3, config["vocab_size"], rng.integers(1, 20)).tolist(), config["eos_token_id"]] for _ in range(ROWS)]
    write(path.replace("/", "-"), list(rows_of(HERE / path, sources, max_new, end)))


torch.set_num_threads(1)
with torch.no_grad():
    if len(sys.argv) > 1:
        shared = pathlib.Path(sys.argv[1])
        lines = (shared / "pronounce/dev.jsonl").read_text().splitlines()[:ROWS]
        rows = list(rows_of(shared / "models/us-bart", [json.loads(l)["input_ids"] for l in lines], 30, 2))
        assert len(rows) == ROWS, "a source was left out"
        write("us-bart", [{k: r[k] for k in ("end", "output_ids", "score")} for r in rows])
    else:
        tiny("t5v10", 1, 12, 1)
        tiny("t5v11", 2, 12, 1)
        tiny("tiny/bart", 3, 12, 29)
