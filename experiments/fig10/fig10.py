"""Figure 10 of the paper on the simulated cluster: the device groups that a planner chooses for 2 to 8 Nanos.

    python3 experiments/fig10/fig10.py [--check]

The mini-batch has as many samples as there are devices; budgets are kept with the paper's bytes of activations (Fig. 8b). `pac` is the
default planner, `paper` the dynamic programme of the paper's equations 2 to 6. Cells where nothing fits and the paper's own Fig. 9a says
OOM for Fig. 10's groups compare no groups: they are counted apart.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import simulated as s  # noqa: E402


def plan(model, devices, planner):
    keys = s.options(model, "parallel", train_batch=devices, cache="none", system_planner=planner)
    words = ["--devices", s.cluster(devices), "--rows", 100 * devices, "--activations", s.activations(model, "parallel")]
    return s.pac("plan", s.RUN, *words, *keys, misfit=True)


def groups_of(answer):
    return [len(st["devices"]) for st in answer["stages"]] if answer else None


def text(answer):
    if answer is None:
        return "nothing fits"
    layers = "-".join(str(st["layers"][1] - st["layers"][0]) for st in answer["stages"])
    return f"{s.shape(groups_of(answer))} ({layers} layers, M {answer['microbatches']}, {answer['predicted']['hybrid_step_s']:.3f} s)"


def compare(answer, paper, model, i):
    """yes: the same groups; OOM: nothing fits, as in Fig. 9a for these very groups."""
    if answer is None:
        return "OOM" if s.PAPER["fig9a_samples_per_second"][model]["pac"][i] == "OOM" else "no"
    return "yes" if groups_of(answer) == paper else "no"


def runner_up(answer, paper):
    """How far the paper's groups were from the best, as the planner says it."""
    if answer is None:
        return "nothing fits"
    why = [c["why"] for c in answer["candidates"] if c["shape"] == s.shape(paper)]
    return why[0] if why else f"not the best of {len(paper)} stages"


def main():
    o = s.arguments(__doc__).parse_args()
    fig = s.PAPER["fig10_device_groups"]
    rows, found = [], {"pac": [], "paper": []}
    for model, (title, _) in s.MODELS.items():
        for i, devices in enumerate(fig["devices"]):
            answers = {p: plan(model, devices, p) for p in found}
            for p in found:
                found[p].append(compare(answers[p], fig[model][i], model, i))
            rows.append([title, devices, s.shape(fig[model][i]), text(answers["pac"]), found["pac"][-1], runner_up(answers["pac"], fig[model][i]),
                         text(answers["paper"]), found["paper"][-1]])  # fmt: skip
    head = ["model", "devices", "Fig. 10", "planner pac, simulated cluster", "same", "Fig. 10's groups there", "planner paper", "same"]
    print("Ranks by stage (layers by stage, micro-batches, predicted step)\n\n" + s.table(head, rows) + "\n")
    b = s.Bounds()
    b.at_most("groups that differ, planner pac", found["pac"].count("no"), 2, f"of {len(rows)}")
    for p, marks in found.items():
        print(f"planner {p}: {marks.count('yes')} the same, {marks.count('no')} differ, {marks.count('OOM')} where nothing fits here nor there")
    return b.finish(o.check)


if __name__ == "__main__":
    sys.exit(main())
