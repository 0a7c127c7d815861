/*
 * What both phases share: which samples a mini-batch has, one optimizer step with its record, and the map of what is cached.
 */
#include "train.h"
#include "pac/clock.h"

#include <math.h>

int64_t train_batches(const train *t)
{
    return (t->job->train.rows + t->job->cfg.train.batch - 1) / t->job->cfg.train.batch;
}

pac_range train_batch(const train *t, int64_t i)
{
    int64_t rows = t->job->train.rows, batch = t->job->cfg.train.batch;
    int64_t lo = i * batch, hi = lo + batch;
    return (pac_range){lo, hi < rows ? hi : rows};
}

bool train_done(const train *t)
{
    return t->stop_after > 0 && t->step >= t->stop_after;
}

int64_t train_tokens(const train *t, pac_range r)
{
    int64_t tokens = 0;
    for (int64_t j = r.lo; j < r.hi; j++)
        tokens += t->map.len[PAC_ENC][t->order[j]] + t->map.len[PAC_DEC][t->order[j]];
    return tokens;
}

static void record_step(const train *t, const char *phase, int64_t epoch, const step_sums *sums, float lr, int64_t tokens,
                        double seconds)
{
    if (pac_world_rank() != 0)
        return;
    record_line(t->rec, json_pack("{s:s, s:s, s:I, s:I, s:f, s:f, s:f, s:I, s:f, s:f, s:I}", "event", "step", "phase", phase,
                                  "epoch", (json_int_t)epoch, "step", (json_int_t)t->step, "loss", sums->loss, "norm",
                                  sums->norm, "lr", (double)lr, "tokens", (json_int_t)tokens, "seconds", seconds, "cpu",
                                  pac_cpu_seconds(), "allocations", (json_int_t)pac_mem_allocations()));
}

static void report_step(const train *t, const char *phase, double loss, int64_t tokens, double seconds)
{
    const pac_observer *w = &t->job->watch;
    if (w->progress == NULL || pac_world_rank() != 0)
        return;
    int64_t in_epoch = train_batches(t);
    w->progress(w->user, &(pac_progress){.phase = phase,
                                         .done = (t->step - 1) % in_epoch + 1,
                                         .total = in_epoch,
                                         .seconds = pac_now() - t->phase_started,
                                         .loss = loss,
                                         .tokens_per_s = seconds > 0 ? (double)tokens / seconds : 0});
}

pac_err train_update(train *t, reducer *r, pac_params *p, double local_loss, int64_t tokens, const char *phase,
                     int64_t epoch, double started, double *loss)
{
    const pac_config *cfg = &t->job->cfg;
    step_sums sums;
    PAC_TRY(pac_space_sync(t->job->be->space)); /* an op that failed ends the run here, before others get its rows */
    PAC_TRY(reduce_gradients(r, p, local_loss, &sums));
    float lr = pac_lr_at(t->step, t->total_steps, (float)cfg->train.lr, t->warmup, cfg->train.linear);
    double clip = cfg->train.clip;
    double scale = clip > 0 && sums.norm > clip ? clip / (sums.norm + 1e-6) : 1; /* as torch.nn.utils.clip_grad_norm_ */
    pac_optimizer_step(t->opt, t->job->be, p, lr, (float)scale);
    t->step++;
    double seconds = pac_now() - started;
    record_step(t, phase, epoch, &sums, lr, tokens, seconds);
    report_step(t, phase, sums.loss, tokens, seconds);
    *loss = sums.loss;
    return PAC_OK;
}

/* ---- what is cached ---- */

static pac_err sample_lengths(const pac_job *job, cache_map *m)
{
    const pac_dataset *d = &job->train;
    for (int stack = PAC_ENC; stack <= PAC_DEC; stack++) {
        const int64_t *off = stack == PAC_ENC || job->batching.shift_source ? d->soff : d->toff;
        void *p;
        PAC_TRY(pac_mem_array(PAC_MEM_DATA, d->rows, sizeof(int64_t), &p));
        m->len[stack] = p;
        for (int64_t i = 0; i < d->rows; i++)
            m->len[stack][i] = off[i + 1] - off[i];
    }
    return PAC_OK;
}

static int64_t add_part(cache_map *m, int stack, int64_t layer)
{
    m->shape.stack[m->shape.parts] = (uint8_t)stack;
    m->shape.layer[m->shape.parts] = (int32_t)layer;
    return m->shape.parts++;
}

/* b_0 is written with the stack's first layer, b_i with layer i - 1, the final output with the last. */
static void number_parts(const pac_job *job, cache_map *m)
{
    bool reads[2][PAC_MAX_LAYERS + 1], final;
    const int64_t *layers = job->desc.layers;
    pac_tune_reads(&job->desc, &job->tune, reads, &final);
    for (int stack = PAC_ENC; stack <= PAC_DEC; stack++)
        for (int64_t i = 0; i <= layers[stack]; i++) {
            int64_t base = stack == PAC_ENC ? 0 : layers[PAC_ENC];
            m->part[stack][i] = reads[stack][i] ? add_part(m, stack, base + (i > 0 ? i - 1 : 0)) : -1;
        }
    m->final = final ? add_part(m, (int)pac_last_stack(&job->desc), pac_depth(&job->desc) - 1) : -1;
}

pac_err cache_map_new(const pac_job *job, cache_map *out)
{
    cache_map m = {.shape = {.D = job->desc.block[PAC_ENC].D, .dtype = job->cfg.cache.dtype, .samples = job->train.rows}};
    pac_err err = sample_lengths(job, &m);
    if (err != PAC_OK) {
        cache_map_free(&m);
        return err;
    }
    number_parts(job, &m);
    m.shape.len[PAC_ENC] = m.len[PAC_ENC];
    m.shape.len[PAC_DEC] = m.len[PAC_DEC];
    *out = m;
    return PAC_OK;
}

void cache_map_free(cache_map *m)
{
    pac_mem_free(m->len[PAC_ENC]);
    pac_mem_free(m->len[PAC_DEC]);
    *m = (cache_map){0};
}
