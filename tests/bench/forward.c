/*
 * The forward pass of the untouched backbone with its head and loss, batch after batch as `pac train` would take them, and how
 * much of the time its products take: the backend's gemm is wrapped in a clock.
 *
 *   bench_forward RUN.yaml STEPS     one JSON object: seconds of each step, of its products, their FLOP, peaks of memory
 */
#include "../../src/runtime/stage.h"
#include "rates.h"

#include "pac/clock.h"
#include "pac/parallel.h"

#include <stdio.h>
#include <stdlib.h>

enum { MOST_STEPS = 1000 };

static const pac_backend *real_backend;
static double product_seconds, product_flop;
static double step_s[MOST_STEPS], gemm_s[MOST_STEPS], cpu_s[MOST_STEPS];

static void timed_gemm(float *c, int64_t ldc, const float *a, int64_t lda, bool ta, const float *b, int64_t ldb, bool tb,
                       int64_t m, int64_t n, int64_t k, float alpha, float beta)
{
    double start = pac_now();
    real_backend->gemm(c, ldc, a, lda, ta, b, ldb, tb, m, n, k, alpha, beta);
    product_seconds += pac_now() - start;
    product_flop += 2.0 * (double)m * (double)n * (double)k;
}

static pac_err forward(stage *s, const pac_layout *l, int64_t step)
{
    const pac_job *job = s->job;
    micro *x = &s->slot[0];
    int64_t sample[4096], n = job->cfg.train.batch, batches = job->train.rows / n;
    double loss;
    for (int64_t i = 0; i < n; i++)
        sample[i] = step % batches * n + i;
    PAC_TRY(micro_begin(s, x, &job->train, sample, n, l));
    PAC_TRY(stage_backbone(s, x, PAC_ENC));
    PAC_TRY(stage_backbone(s, x, PAC_DEC));
    x->h = (float *)x->acts.final;
    PAC_TRY(stage_loss(s, x, s->model, 1.0f, false));
    return stage_take_loss(s, &loss);
}

static pac_err steps(pac_job *job, int64_t n, pac_process_memory *memory)
{
    pac_plan plan;
    pac_layout layout;
    stage *s;
    PAC_CHECK(job->train.rows >= job->cfg.train.batch && job->cfg.train.batch <= 4096, PAC_EUSAGE, "too few rows for a batch");
    PAC_TRY(pac_job_plan(job, NULL, &plan, NULL));
    PAC_TRY(pac_layout_new(&plan, &layout));
    PAC_TRY(stage_new(job, 0, pac_depth(&job->desc), STAGE_BACKBONE, &s));
    PAC_TRY(stage_reserve(s, 1));
    pac_process_reset_peak();
    for (int64_t i = 0; i < n; i++) {
        double start = pac_now(), cpu = pac_cpu_seconds();
        product_seconds = product_flop = 0;
        PAC_TRY(forward(s, &layout, i));
        step_s[i] = pac_now() - start;
        cpu_s[i] = pac_cpu_seconds() - cpu;
        gemm_s[i] = product_seconds;
    }
    pac_process_memory_read(memory);
    stage_free(&s);
    pac_layout_free(&layout);
    pac_plan_free(&plan);
    return PAC_OK;
}

static void list(const char *name, const double *v, int64_t n)
{
    printf("\"%s\":[", name);
    for (int64_t i = 0; i < n; i++)
        printf("%s%.6f", i > 0 ? "," : "", v[i]);
    printf("],");
}

static pac_err run(const char *path, int64_t n)
{
    static const char *const sets[] = {"system.name=pac", "system.groups=[1]", "cache=none"};
    pac_config cfg;
    pac_job *job;
    pac_process_memory memory;
    PAC_TRY(pac_config_read(path, sets, 3, &cfg));
    PAC_TRY(pac_job_open(&cfg, PAC_JOB_TRAIN, NULL, &job));
    real_backend = job->be;
    pac_backend timed = *job->be;
    timed.gemm = timed_gemm;
    job->be = &timed;
    pac_err err = steps(job, n, &memory);
    job->be = real_backend;
    pac_job_close(&job);
    PAC_TRY(err);
    printf("{");
    list("seconds", step_s, n);
    list("gemm", gemm_s, n);
    list("cpu", cpu_s, n);
    printf("\"gemm_flop\":%.6g,\"peak_rss\":%lld,\"pss\":%lld}\n", product_flop, (long long)memory.peak_rss,
           (long long)memory.pss);
    return PAC_OK;
}

int main(int argc, char **argv)
{
    start_with_right_core(argv);
    long n = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
    if (n < 1 || n > MOST_STEPS) {
        fprintf(stderr, "usage: bench_forward RUN.yaml STEPS (1 to %d)\n", MOST_STEPS);
        return 2;
    }
    pac_err err = pac_world_init(&argc, &argv);
    if (err == PAC_OK)
        err = run(argv[1], n);
    if (err != PAC_OK)
        fprintf(stderr, "bench_forward: %s\n", pac_err_message());
    pac_backend_release();
    pac_world_done();
    return pac_err_exit_code(err);
}
