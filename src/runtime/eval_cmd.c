/* The eval command: a job whose technique and task come from saved adapters, evaluated through stages. */
#include "evaluate.h"
#include "trainer.h"
#include "pac/file.h"
#include "pac/log.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The plan that the run was trained with, where it fits; rank 0 looks, so that all do the same. */
static pac_err choose_plan(const pac_job *job, pac_plan *out)
{
    char path[PAC_PATH + 16];
    int usable = 0;
    snprintf(path, sizeof path, "%s/plan.yaml", job->cfg.output);
    if (pac_world_rank() == 0 && job->cfg.output[0] != '\0' && access(path, R_OK) == 0) {
        pac_plan plan;
        if (pac_plan_read(path, &plan) == PAC_OK) {
            usable = plan.world == pac_world_size() && plan.left_out == 0 && plan.layers == pac_depth(&job->desc);
            pac_plan_free(&plan);
        }
    }
    PAC_TRY(pac_bcast(pac_world(), &usable, sizeof usable, 0));
    return usable ? plan_load(job, path, out) : plan_for_evaluation(job, out);
}

static pac_err eval_json(const pac_job *job, const evaluation *e, char **json)
{
    *json = NULL;
    if (pac_world_rank() != 0)
        return PAC_OK;
    return json_text(json_pack("{s:o, s:I, s:f}", "metrics", metrics_json(&e->metrics), "rows", (json_int_t)job->eval.rows,
                               "seconds", e->seconds),
                     json);
}

/* An output that cannot be written is told before the work. */
static pac_err check_output(const char *path)
{
    return path != NULL && pac_world_rank() == 0 && access(path, F_OK) != 0 ? pac_file_replace_text(path, "") : PAC_OK;
}

static pac_err eval_job(pac_job *job, const char *adapters_dir, const adapters_info *info, const char *predictions, char **json)
{
    pac_plan plan = {0};
    stage *s = NULL;
    evaluation e = {0};
    pac_err err = PAC_OK;
    if (job->eval.rows == 0)
        err = pac_fail(PAC_ECONFIG, "%s: task.eval is not set: nothing to evaluate", job->cfg.path);
    else if (adapters_dir == NULL && job->cfg.head == PAC_HEAD_CLASSIFICATION)
        err = pac_fail(PAC_EUSAGE, "eval: a classification head learns, the model alone has none: give --adapters DIR");
    PAC_GO(err);
    PAC_GO(pac_agree(pac_world(), check_output(predictions)));
    PAC_GO(choose_plan(job, &plan));
    if (adapters_dir != NULL) {
        PAC_GO(pac_agree(pac_world(), adapters_check(job, info, adapters_dir)));
        PAC_GO(evaluator_load(job, &plan, &s));
        PAC_GO(adapters_load(job, adapters_dir, pac_tuned_params(s->tuned)));
    }
    PAC_GO(evaluate_rows(job, &plan, s, NULL, predictions, &e));
    run_report_metrics("evaluation", &e);
    err = pac_agree(pac_world(), eval_json(job, &e, json));
out:
    if (may_free(err))
        stage_free(&s);
    pac_plan_free(&plan);
    return err;
}

pac_err pac_eval(const pac_config *cfg, const char *adapters_dir, const char *predictions, const pac_observer *watch,
                 char **json)
{
    pac_config c = *cfg;
    adapters_info info = {0};
    pac_job *job = NULL;
    if (adapters_dir != NULL)
        PAC_TRY(adapters_configure(adapters_dir, &c, &info));
    PAC_CHECK(strcmp(c.task.name, cfg->task.name) == 0, PAC_ECONFIG,
              "%s: task.name: %s, but the adapters in %s were trained for %s", cfg->path, cfg->task.name, adapters_dir,
              c.task.name);
    PAC_TRY(pac_job_open(&c, PAC_JOB_EVAL, watch, &job));
    pac_job_use_test(job);
    pac_err err = eval_job(job, adapters_dir, &info, predictions, json);
    pac_job_close(&job);
    return err;
}
