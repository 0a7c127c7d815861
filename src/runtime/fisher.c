/*
 * The Fisher pass: full tuning's forward and backward through the pipeline, one sample a micro-batch. Behind each backward the
 * squares of this stage's gradients are added up and the gradients cleared, so samples stay apart although several are in
 * flight.
 *
 * A sample is worked on by one member of each group, in turn: its gradient is that of a single rank whatever the plan, and the
 * sums over the members of a group complete it. (Tensors of several stages, such as a tied embedding, would need their parts
 * joined before squaring; pruning looks at tensors of single blocks only.)
 */
#include "fisher.h"
#include "transfer.h"
#include "pac/clock.h"

#include <math.h>

struct fisher {
    pac_job job;   /* as the run's, with full tuning */
    pac_plan plan; /* as the run's, with one member of each group at work */
    pac_stage_plan stages[PAC_MAX_DEVICES];
    double share[PAC_MAX_DEVICES]; /* [ranks] of all stages */
    pac_layout layout;
    pipeline pipe;
    minibatch batch;
    int64_t *sample;
    float *sum; /* [parameters of the slice] */
    double started;
    int64_t done;
};

/* ---- making ---- */

static void copy_plan(fisher *f, const pac_plan *plan)
{
    double *share = f->share;
    f->plan = *plan;
    f->plan.stage = f->stages;
    for (int64_t p = 0; p < plan->stages; p++) {
        f->stages[p] = plan->stage[p];
        f->stages[p].share = share;
        share += plan->stage[p].ranks;
    }
}

static pac_err choose_samples(fisher *f)
{
    void *p;
    int64_t rows = f->job.train.rows, n = rows < FISHER_SAMPLES ? rows : FISHER_SAMPLES;
    PAC_TRY(pac_mem_array(PAC_MEM_DATA, n, sizeof(int64_t), &p));
    f->sample = p;
    for (int64_t i = 0; i < n; i++)
        f->sample[i] = i * rows / n;
    f->batch = (minibatch){.sample = f->sample, .n = n};
    return PAC_OK;
}

static pac_err new_stage(fisher *f)
{
    const pac_stage_plan *mine = &f->plan.stage[f->layout.stage];
    void *p;
    PAC_TRY(stage_new(&f->job, mine->first, mine->last, STAGE_LEARNS, &f->pipe.stage));
    stage *s = f->pipe.stage;
    PAC_TRY(pac_tuned_init(s->tuned, s->model, NULL));
    PAC_TRY(pac_space_array(f->job.be->space, PAC_MEM_WORK, pac_tuned_params(s->tuned)->total, sizeof(float), &p));
    f->sum = p;
    return pipeline_open(&f->pipe);
}

/* ---- the pass ---- */

/* The one member of each group that works on sample m. */
static pac_err choose_member(void *user, const pac_op *op)
{
    fisher *f = user;
    for (int64_t p = 0; p < f->plan.stages; p++)
        for (int64_t r = 0; r < f->plan.stage[p].ranks; r++)
            f->plan.stage[p].share[r] = r == op->m % f->plan.stage[p].ranks;
    if (op->kind == PAC_OP_FWD) {
        int64_t rows = loss_count(&f->job, &f->job.train, &f->sample[op->m], 1);
        f->batch.scale = rows > 0 ? 1.0f / (float)rows : 0;
        pac_set_phase("Fisher pass", op->m);
    }
    return PAC_OK;
}

static void report(fisher *f)
{
    const pac_observer *w = &f->job.watch;
    pac_progress now = {
        .phase = "Fisher pass", .done = f->done, .total = f->batch.n, .seconds = pac_now() - f->started, .loss = NAN};
    if (w->progress != NULL && pac_world_rank() == 0)
        w->progress(w->user, &now);
}

static pac_err add_squares(void *user, micro *x)
{
    fisher *f = user;
    (void)x;
    pac_params *p = pac_tuned_params(f->pipe.stage->tuned);
    f->job.be->add_squares(f->sum, p->g, p->total);
    f->job.be->zero(p->g, p->total);
    f->done++;
    report(f);
    return PAC_OK;
}

static pac_err run_pass(fisher *f)
{
    const pac_params *p = pac_tuned_params(f->pipe.stage->tuned);
    f->started = pac_now();
    PAC_TRY(pipeline_run(&f->pipe, &f->batch, f->batch.n));
    PAC_TRY(pipeline_flush(&f->pipe));
    if (pac_comm_size(f->layout.group) > 1)
        PAC_TRY(ranks_sum(f->layout.group, &f->job, f->sum, p->total));
    f->job.be->copy(p->w, f->sum, p->total);
    return PAC_OK;
}

pac_err fisher_new(const pac_job *job, const pac_layout *layout, fisher **out)
{
    void *p;
    pac_err err;
    PAC_TRY(pac_agree(pac_world(), pac_mem_alloc(PAC_MEM_OTHER, sizeof(fisher), &p)));
    fisher *f = p;
    *f = (fisher){.job = *job, .layout = *layout};
    f->job.tune.kind = PAC_TECH_FULL;
    f->job.desc.dtype = PAC_F32; /* its gradients are of all weights */
    f->job.cfg.train.dropout = 0;
    copy_plan(f, layout->plan);
    f->layout.plan = &f->plan;
    f->pipe =
        (pipeline){.job = &f->job, .layout = &f->layout, .before = choose_member, .after_backward = add_squares, .user = f};
    err = choose_samples(f);
    if (err == PAC_OK)
        err = new_stage(f);
    PAC_GO(pac_agree(pac_world(), err));
    PAC_GO(run_pass(f));
    *out = f;
    return PAC_OK;
out:
    if (may_free(err))
        fisher_free(&f);
    return err;
}

void fisher_free(fisher **fp)
{
    fisher *f = *fp;
    if (f == NULL)
        return;
    pipeline_close(&f->pipe);
    stage_free(&f->pipe.stage);
    pac_space_free(f->job.be->space, f->sum);
    pac_mem_free(f->sample);
    pac_mem_free(f);
    *fp = NULL;
}

const pac_model *fisher_scores(const fisher *f)
{
    return f->pipe.stage->model;
}
