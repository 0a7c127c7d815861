#!/usr/bin/env python3
"""What `pac export` writes against the real transformers and peft (tests/golden/README.md says which versions were used).

export_check.py names OUT          PEFT's own names and shapes for the models of NAMES, one a line, as OUT/<model>.txt
export_check.py same MODEL EXPORT ROWS LOGITS
    EXPORT is a directory of `pac export` (peft or merged) for the Hugging Face directory MODEL; LOGITS is what
    `pac predict --model MODEL --adapters ... --input ROWS --logits LOGITS` wrote. Fails where the logits differ.
"""
import json
import os
import sys

import torch
import transformers
from safetensors.torch import load_file

TOLERANCE = 2e-4  # of the largest logit: float32 sums in two orders
NAMES = {  # class, modules that LoRA changes, modules_to_save, PEFT's task; r is 2
    "t5v10": ("T5ForConditionalGeneration", ["q", "v"], None, "SEQ_2_SEQ_LM"),
    "tiny/bart": ("BartForConditionalGeneration", ["q_proj", "v_proj"], None, "SEQ_2_SEQ_LM"),
    "tiny/t5v11": ("T5ForSequenceClassification", ["q", "v"], ["classification_head"], "SEQ_CLS"),
    "tiny/bart:cls": ("BartForSequenceClassification", ["q_proj", "v_proj"], ["classification_head"], "SEQ_CLS"),
    "tiny/bert": ("BertForSequenceClassification", ["query", "value"], ["pooler", "classifier"], "SEQ_CLS"),
    "tiny/distilbert": ("DistilBertForSequenceClassification", ["q_lin", "v_lin"], ["pre_classifier", "classifier"], "SEQ_CLS"),
}
RANK, CLASSES = 2, 2


def names(out):
    import peft
    fixtures = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures")
    os.makedirs(out, exist_ok=True)
    for key, (cls, targets, saved, task) in NAMES.items():
        config = transformers.AutoConfig.from_pretrained(os.path.join(fixtures, key.split(":")[0]))
        if task == "SEQ_CLS":
            config.num_labels = CLASSES
        model = getattr(transformers, cls)(config)
        model = peft.get_peft_model(model, peft.LoraConfig(r=RANK, target_modules=targets, modules_to_save=saved, task_type=task))
        lines = [f"{name} {list(t.shape)}".replace(",", "") for name, t in sorted(peft.get_peft_model_state_dict(model).items())]
        with open(os.path.join(out, key.replace("/", "_").replace(":", "_") + ".txt"), "w") as f:
            f.write("\n".join(lines) + "\n")


def load(base, export):
    """The exported model, loaded as a user would."""
    peft_file = os.path.join(export, "adapter_config.json")
    if not os.path.exists(peft_file):
        with open(os.path.join(export, "config.json")) as f:
            name = json.load(f)["architectures"][0]
        auto = "AutoModelForSeq2SeqLM" if name.endswith("Generation") else "AutoModelForSequenceClassification"
        model, info = getattr(transformers, auto).from_pretrained(export, output_loading_info=True)
        assert type(model).__name__ == name, (type(model), name)
        missing = set(info["missing_keys"]) | set(info["unexpected_keys"]) | set(info["mismatched_keys"])
        assert not missing, f"{export}: {missing}"
        return model
    import peft
    with open(peft_file) as f:
        task = json.load(f)["task_type"]
    if task == "SEQ_2_SEQ_LM":
        model = transformers.AutoModelForSeq2SeqLM.from_pretrained(base, dtype=torch.float32)
    else:
        saved = load_file(os.path.join(export, "adapter_model.safetensors"))
        classes = min(t.shape[0] for n, t in saved.items() if n.endswith(("classifier.bias", "out_proj.bias")))
        model = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=classes, dtype=torch.float32)
    return peft.PeftModel.from_pretrained(model, export)


def rows_of(path):
    with open(path) as f:
        return [json.loads(line) for line in f]


def logits_of(model, row):
    ids = torch.tensor([row["input_ids"]])
    if not model.config.is_encoder_decoder or "SequenceClassification" in type(getattr(model, "base_model", model)).__name__ + \
            type(model).__name__:
        return model(input_ids=ids).logits[0]
    start = model.config.decoder_start_token_id
    decoder = torch.tensor([[start] + row["labels"][:-1]])
    return model(input_ids=ids, decoder_input_ids=decoder).logits[0]


def same(base, export, rows, logits):
    torch.set_num_threads(1)
    model = load(base, export).eval()
    ours, worst = load_file(logits), 0.0
    with torch.no_grad():
        for i, row in enumerate(rows_of(rows)):
            theirs, mine = logits_of(model, row), ours[f"logits.{i}"]
            assert theirs.shape == mine.shape, (theirs.shape, mine.shape)
            worst = max(worst, float((theirs - mine).abs().max() / theirs.abs().max()))
    print(f"{export}: {type(model).__name__}, {i + 1} rows, largest difference {worst:.1e} of the largest logit")
    return 0 if worst < TOLERANCE else 1


def main():
    commands = {"names": (names, 1), "same": (same, 4)}
    if len(sys.argv) < 2 or sys.argv[1] not in commands or len(sys.argv) != 2 + commands[sys.argv[1]][1]:
        sys.exit(__doc__)
    sys.exit(commands[sys.argv[1]][0](*sys.argv[2:]))


if __name__ == "__main__":
    main()
