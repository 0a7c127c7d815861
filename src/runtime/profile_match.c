/*
 * Is a profile, or a plan, of this job? Layer counts alone do not tell T5-Base from BART-Large, nor a side network from one of
 * another width: shape, technique and optimizer are compared in words, and for files of earlier versions by the bytes of their
 * layers, which follow from both. Times hold for the lengths that were measured.
 */
#include "planning.h"
#include "profile_match.h"
#include "pac/bytes.h"
#include "pac/log.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const double SAME = 1e-5;            /* files have seven digits */
static const double SLIGHT = 0.05, FAR = 2; /* of lengths: worth a warning; a factor beyond which times are no longer right */

void model_shape_text(const pac_model_desc *d, char out[static PAC_SHAPE_TEXT])
{
    const pac_block_cfg *b = &d->block[d->layers[PAC_ENC] > 0 ? PAC_ENC : PAC_DEC];
    snprintf(out, PAC_SHAPE_TEXT, "%lld + %lld layers, width %lld, feed-forward %lld, %lld heads of %lld, vocabulary %lld",
             (long long)d->layers[PAC_ENC], (long long)d->layers[PAC_DEC], (long long)b->D, (long long)b->F, (long long)b->H,
             (long long)b->K, (long long)d->vocab);
}

void tune_setting_text(const pac_tune_opts *o, char out[static PAC_SETTING_TEXT])
{
    const char *name = pac_technique_name(o->kind);
    if (o->kind == PAC_TECH_PARALLEL)
        snprintf(out, PAC_SETTING_TEXT, "%s, reduction %lld", name, (long long)o->reduction);
    else if (o->kind == PAC_TECH_LORA)
        snprintf(out, PAC_SETTING_TEXT, "%s, rank %lld", name, (long long)o->rank);
    else if (o->kind == PAC_TECH_ADAPTERS && o->width > 0)
        snprintf(out, PAC_SETTING_TEXT, "%s, width %lld", name, (long long)o->width);
    else
        snprintf(out, PAC_SETTING_TEXT, "%s", name);
}

/* ---- another model, another technique ---- */

static const char *file_of(const pac_profile *p)
{
    return p->path[0] != '\0' ? p->path : "the profile";
}

/* The remedy in words to paste. */
static const char *again(const pac_job *job, const pac_profile *p, char out[static 512])
{
    if (p->derived[0] != '\0')
        snprintf(out, 512, "profile again with this run's --set: pac profile %.150s --devices %s -o %.150s", job->cfg.path,
                 p->derived, file_of(p));
    else
        snprintf(out, 512, "profile again with this run's --set: mpirun -np %lld pac profile %.150s -o %.150s",
                 (long long)p->devices, job->cfg.path, file_of(p));
    return out;
}

static pac_err differs(const pac_job *job, const pac_profile *p, const char *what, const char *there, const char *here)
{
    char remedy[512];
    return pac_fail(PAC_ECONFIG, "%s: its times and bytes are of another %s (%s) than this run's (%s); %s", file_of(p), what,
                    there, here, again(job, p, remedy));
}

static bool near(double a, double b)
{
    return fabs(a - b) <= SAME * fmax(fabs(a), fabs(b));
}

/* Files of earlier versions: what the layers' weights take, and what learns in them, follow from shape and technique. */
static pac_err compare_bytes(const pac_job *job, const pac_profile *p)
{
    int64_t L = pac_depth(&job->desc);
    double weights[2] = {0, 0}, tuned[2] = {0, 0};
    char there[64], here[64], a[32], b[32];
    for (int64_t l = 0; l < L; l++) {
        bool frozen = job->tune.kind != PAC_TECH_FULL && l + 1 < L; /* scratch of the head rides with the last layer */
        weights[0] += frozen ? p->layer[l].weights : 0;
        weights[1] += frozen ? (double)pac_model_slice_bytes(&job->desc, l, l + 1, false) : 0;
        tuned[0] += p->layer[l].tuned;
        tuned[1] += 4.0 * (double)pac_tune_slice_parameters(&job->desc, &job->tune, l, l + 1);
    }
    snprintf(there, sizeof there, "%s frozen", pac_bytes_text(weights[0], a));
    snprintf(here, sizeof here, "%s frozen", pac_bytes_text(weights[1], b));
    if (p->shape[0] == '\0' && !near(weights[0], weights[1]))
        return differs(job, p, "model or type of weights", there, here);
    snprintf(there, sizeof there, "%s learn", pac_bytes_text(tuned[0], a));
    snprintf(here, sizeof here, "%s learn", pac_bytes_text(tuned[1], b));
    return near(tuned[0], tuned[1]) ? PAC_OK : differs(job, p, "technique setting or head", there, here);
}

static pac_err compare_words(const pac_job *job, const pac_profile *p)
{
    char shape[PAC_SHAPE_TEXT], setting[PAC_SETTING_TEXT], layers[2][64];
    const int64_t *n = job->desc.layers;
    const char *optimizer = pac_config_word("train.optimizer", (int)job->cfg.train.optimizer.kind);
    const char *technique = pac_technique_name(job->tune.kind);
    model_shape_text(&job->desc, shape);
    tune_setting_text(&job->tune, setting);
    if (p->shape[0] != '\0' && strcmp(p->shape, shape) != 0)
        return differs(job, p, "model", p->shape, shape);
    snprintf(layers[0], sizeof layers[0], "%lld + %lld layers", (long long)p->layers_enc, (long long)p->layers_dec);
    snprintf(layers[1], sizeof layers[1], "%lld + %lld layers", (long long)n[PAC_ENC], (long long)n[PAC_DEC]);
    if (strcmp(layers[0], layers[1]) != 0)
        return differs(job, p, "model", layers[0], layers[1]);
    if (strcmp(p->technique, technique) != 0)
        return differs(job, p, "technique", p->technique, technique);
    if (p->setting[0] != '\0' && strcmp(p->setting, setting) != 0)
        return differs(job, p, "technique setting", p->setting, setting);
    return strcmp(p->optimizer, optimizer) == 0 ? PAC_OK : differs(job, p, "optimizer", p->optimizer, optimizer);
}

/* ---- other lengths ---- */

static pac_err compare_lengths(const pac_job *job, const pac_profile *p)
{
    const pac_dataset *d = &job->train;
    const bool made_up = d->identity == 0;
    double source = (double)d->soff[d->rows] / (double)d->rows;
    double target = job->batching.shift_source ? source : (double)d->toff[d->rows] / (double)d->rows;
    double all = source + target, measured = p->source_tokens + p->target_tokens;
    double off = fmax(fabs(source - p->source_tokens), fabs(target - p->target_tokens)) / measured;
    char lengths[192], remedy[512];
    const pac_config *c = &job->cfg;
    if (off <= SLIGHT || !(all > 0))
        return PAC_OK;
    if (made_up && p->max_source == c->task.max_source && p->max_target == c->task.max_target) /* it has measured them */
        return PAC_OK;
    snprintf(lengths, sizeof lengths, "%.1f + %.1f tokens a sample, this run's %s %.1f + %.1f", p->source_tokens,
             p->target_tokens, made_up ? "greatest lengths are" : "have", source, target);
    bool mean = made_up && p->max_source == 0 && all > measured; /* an earlier version's, perhaps of real data */
    PAC_CHECK(mean || (all <= FAR * measured && measured <= FAR * all), PAC_ECONFIG,
              "%s: it was made for samples of other lengths: %s, and times do not carry over that far; %s", file_of(p), lengths,
              again(job, p, remedy));
    pac_log(PAC_LOG_WARN, "%s: it was made for samples of other lengths: %s; %s. To be sure, %s", file_of(p), lengths,
            made_up ? "without data the profile's lengths are taken"
                    : "times are interpolated over tokens, bytes are those of the profile's lengths",
            again(job, p, remedy));
    return PAC_OK;
}

pac_err profile_matches(const pac_job *job, const pac_profile *p)
{
    PAC_TRY(compare_words(job, p));
    PAC_TRY(compare_bytes(job, p));
    return compare_lengths(job, p);
}

/* ---- plans ---- */

pac_err plan_matches(const pac_job *job, const char *path, const pac_plan *plan)
{
    char shape[PAC_SHAPE_TEXT];
    int64_t L = pac_depth(&job->desc);
    model_shape_text(&job->desc, shape);
    PAC_CHECK(plan->layers == L, PAC_ECONFIG, "%s: the plan is for %lld layers, %s has %lld: plan again", path,
              (long long)plan->layers, job->cfg.model.path, (long long)L);
    PAC_CHECK(plan->shape[0] == '\0' || strcmp(plan->shape, shape) == 0, PAC_ECONFIG,
              "%s: the plan is of another model (%s) than this run's (%s): plan again", path, plan->shape, shape);
    return PAC_OK;
}

/* system.groups says sizes, a plan has stages. */
pac_err groups_match(const pac_job *job, const char *path, const pac_plan *plan)
{
    const pac_config *c = &job->cfg;
    char groups[PAC_PLAN_SHAPE] = "", shape[PAC_PLAN_SHAPE];
    bool same = c->system.ngroups == plan->stages;
    size_t n = 0;
    for (int64_t s = 0; s < c->system.ngroups && n + 24 < sizeof groups; s++) {
        n += (size_t)snprintf(groups + n, sizeof groups - n, "%s%lld", s > 0 ? "-" : "", (long long)c->system.groups[s]);
        same = same && c->system.groups[s] == plan->stage[s].ranks;
    }
    pac_plan_shape(plan, shape, sizeof shape);
    PAC_CHECK(c->system.ngroups == 0 || same, PAC_ECONFIG,
              "%s: the plan is %s (ranks by stage), system.groups in %s is %s: leave one of them out", path, shape, c->path,
              groups);
    return PAC_OK;
}
