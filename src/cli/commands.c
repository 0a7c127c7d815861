/* The table of commands: name, what it does, how it is called. */
#include "cli.h"

#include <stdio.h>
#include <string.h>

const command commands[] = {
    {"train", "fine-tune: profile, plan, hybrid epoch, cached epochs, evaluation, save",
     "mpirun -np N pac train RUN.yaml [options]",
     "mpirun -np 4 pac train experiments/quickstart/run.yaml\n"
     "mpirun -np 2 pac train run.yaml --set train.epochs=5 --set 'system.groups=[1,1]'\n"
     "mpirun -np 4 pac train run.yaml --plan runs/mrpc/plan.yaml --json > result.json",
     "set plan profile steps resume quiet json help", cmd_train, true, 1, 1},
    {"profile", "measure layers, devices and links", "mpirun -np N pac profile RUN.yaml [-o profile.yaml]",
     "mpirun -np 4 pac profile run.yaml -o profile.yaml\n"
     "pac profile experiments/clusters/run.yaml --devices experiments/clusters/nano4.yaml --rows 2000 -o profile.yaml   # derived, not measured",
     "output devices rows set quiet json help", cmd_profile, true, 1, 1},
    {"plan", "stages and device groups from a profile, and why", "pac plan RUN.yaml --profile profile.yaml|--devices cluster.yaml [-o plan.yaml]",
     "pac plan experiments/clusters/run.yaml --devices experiments/clusters/two-orin-two-laptops.yaml --rows 2000 -o plan.yaml\n"
     "pac profile experiments/clusters/run.yaml --devices experiments/clusters/nano4.yaml --rows 2000 -o profile.yaml   # or measure: mpirun\n"
     "pac plan experiments/clusters/run.yaml --profile profile.yaml --rows 2000",
     "profile output devices rows activations set quiet json help", cmd_plan, true, 1, 1},
    {"simulate", "step and epoch times, memory and a Gantt chart of devices that are not here",
     "pac simulate RUN.yaml --devices cluster.yaml|--profile profile.yaml [--plan plan.yaml] [-o chart.svg]",
     "pac simulate experiments/clusters/run.yaml --devices experiments/clusters/nano8.yaml --rows 2000 -o chart.svg\n"
     "pac plan experiments/clusters/run.yaml --devices experiments/clusters/nano4.yaml --rows 2000 -o plan.yaml\n"
     "pac simulate experiments/clusters/run.yaml --devices experiments/clusters/nano4.yaml --plan plan.yaml --rows 2000 --schedule sequential\n"
     "pac profile experiments/clusters/run.yaml --devices experiments/clusters/nano4.yaml --rows 2000 -o profile.yaml   # or measure: mpirun\n"
     "pac simulate experiments/clusters/run.yaml --profile profile.yaml --rows 2000 --json",
     "devices profile plan schedule bytes activations rows output set quiet json help", cmd_simulate, true, 1, 1},
    {"estimate", "parameters, FLOP and bytes before anything is loaded", "pac estimate RUN.yaml|--shape NAME [options]",
     "pac estimate run.yaml\n"
     "pac estimate run.yaml --plan runs/mrpc/plan.yaml\n"
     "pac estimate run.yaml --devices 4 --set system.name=ecofl\n"
     "pac estimate --shape t5-large --technique lora --batch 16 --source 128 --target 1\n"
     "pac estimate --shape bert-base --set task.name=mrpc --set head=classification",
     "plan devices shape technique batch source target set quiet json help", cmd_estimate, false, 0, 1},
    {"eval", "metrics of saved adapters on the task's evaluation file", "mpirun -np N pac eval RUN.yaml [--adapters DIR] [--predictions FILE]",
     "mpirun -np 4 pac eval run.yaml --adapters runs/quickstart/adapters\n"
     "pac eval run.yaml --adapters runs/quickstart/adapters --predictions answers.jsonl\n"
     "pac eval run.yaml                       # the untouched backbone",
     "adapters predictions set quiet json help", cmd_eval, true, 1, 1},
    {"predict", "answer lines of text (or JSON lines)", "pac predict --model DIR [--adapters DIR] [--input FILE]",
     "echo 'a line' | pac predict --model data/demo/model --adapters runs/quickstart/adapters\n"
     "pac predict --model DIR --input lines.jsonl --beams 4 --max-new 40\n"
     "pac predict --model DIR --input lines.jsonl --logits logits.safetensors",
     "model adapters input logits beams max-new backend quiet json help", cmd_predict, true, 0, 0},
    {"init-model", "a model with random weights in Hugging Face layout", "pac init-model SHAPE|config.json DIR [--seed S]",
     "pac init-model t5-small models/random-t5-small --seed 1\n"
     "pac init-model bart-large models/random-bart-large\n"
     "pac init-model mine/config.json models/mine\n"
     "pac init-model which models/none        # an unknown shape is answered by the list of all", "seed quiet json help", cmd_init_model, false, 2, 2},
    {"cache", "what a kept activation cache holds; check it", "pac cache info|verify DIR",
     "pac cache info runs/quickstart/cache\npac cache verify runs/quickstart/cache", "quiet json help", cmd_cache, false, 2, 2},
    {"export", "LoRA for PEFT; merged weights for Hugging Face",
     "pac export --adapters DIR --format peft|merged [--model DIR] OUT",
     "pac export --adapters runs/mrpc/adapters --format peft out\n"
     "pac export --adapters runs/mrpc/adapters --format merged out-model",
     "adapters format model quiet json help", cmd_export, true, 1, 1},
    {"report", "several runs side by side: one table, plots of loss, metrics, time and memory", "pac report RUN... [-o DIR]",
     "pac report runs/mrpc-lora runs/mrpc-parallel -o report\npac report runs/seed* --json", "output quiet json help", cmd_report, false, 1,
     MAX_WORDS},
    {"info", "devices, cores, threads, libraries, network", "pac info", "pac info --json", "quiet json help", cmd_info, false, 0, 0},
    {0},
};

const command *find_command(const char *name)
{
    for (const command *c = commands; c->name != NULL; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

void print_help(void)
{
    printf("pac fine-tunes a personal language model on a few trusted devices together.\n\n"
           "usage: [mpirun -np N] pac COMMAND [arguments]\n\n");
    for (const command *c = commands; c->name != NULL; c++)
        printf("  %-11s %s%s\n", c->name, c->summary, c->run == NULL ? " (not built yet)" : "");
    printf("\npac COMMAND --help shows options and examples; pac --version what it was built with.\n"
           "Exit status: 0 done, 2 usage or configuration, 3 data or file, 4 memory or disk, 5 numerical, 70 internal, 75 peer lost.\n");
}
