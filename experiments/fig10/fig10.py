"""Figure 10 of the paper on the simulated cluster: the device groups that a planner chooses for 2 to 8 Nanos.

    python3 experiments/fig10/fig10.py [--check]

The mini-batch has as many samples as there are devices; budgets are kept with the paper's bytes of activations (Fig. 8b). `pac` is the
default planner, `paper` the dynamic programme of the paper's equations 2 to 6. Where nothing fits, the paper's own Fig. 9a says OOM too.
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


def agrees(answer, paper, model, i):
    """The same groups; or nothing fits where Fig. 9a has OOM for these very groups."""
    return groups_of(answer) == paper if answer else s.PAPER["fig9a_samples_per_second"][model]["pac"][i] == "OOM"


def runner_up(answer, paper):
    """How far the paper's groups were from the best, as the planner says it."""
    why = [c["why"] for c in answer["candidates"] if c["shape"] == s.shape(paper)] if answer else []
    return why[0] if why and why[0] != "best" else ""


def main():
    o = s.arguments(__doc__).parse_args()
    fig = s.PAPER["fig10_device_groups"]
    rows, same = [], {"pac": 0, "paper": 0}
    for model, (title, _) in s.MODELS.items():
        for i, devices in enumerate(fig["devices"]):
            answers = {p: plan(model, devices, p) for p in same}
            for p in same:
                same[p] += agrees(answers[p], fig[model][i], model, i)
            marks = ["yes" if agrees(answers[p], fig[model][i], model, i) else "no" for p in same]
            rows.append([title, devices, s.shape(fig[model][i]), text(answers["pac"]), marks[0], runner_up(answers["pac"], fig[model][i]),
                         text(answers["paper"]), marks[1]])  # fmt: skip
    head = ["model", "devices", "Fig. 10", "planner pac, simulated cluster", "same", "Fig. 10's groups there", "planner paper", "same"]
    print("Ranks by stage (layers by stage, micro-batches, predicted step)\n\n" + s.table(head, rows))
    b = s.Bounds()
    b.at_most("groups that differ, planner pac", len(rows) - same["pac"], 2, "of 12")
    print(f"\nplanner paper: {len(rows) - same['paper']} of {len(rows)} differ (no bound)")
    return b.finish(o.check)


if __name__ == "__main__":
    sys.exit(main())
