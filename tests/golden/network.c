/* A model with a technique, whole or cut into slices: forward, loss and backward on the public functions of pac/model.h and
 * pac/tune.h. */
#include "network.h"

#include <stdlib.h>

static pac_stack top_of(const network *x)
{
    return x->d.layers[PAC_DEC] > 0 ? PAC_DEC : PAC_ENC;
}

static pac_model *model_at(const network *x, int64_t layer)
{
    return x->model[x->at[layer]];
}

static float *floats(pac_arena *arena, int64_t n)
{
    float *p;
    OK(pac_arena_floats(arena, n, &p));
    return p;
}

/* ---- opening ---- */

/* Fixtures of five options are side networks (README.md). */
static void read_options(network *x)
{
    static const pac_technique_kind kinds[] = {PAC_TECH_FULL, PAC_TECH_ADAPTERS, PAC_TECH_LORA, PAC_TECH_PARALLEL};
    pac_tensor options = golden_tensor(x->f, "options");
    const int32_t *v = options.data, *has = golden_tensor(x->f, "has_layer").data;
    bool side_only = options.shape[0] == 5;
    x->o = (pac_tune_opts){.gate = (pac_gate)v[0],
                           .merge = (pac_merge)v[1],
                           .head = (pac_head)v[2],
                           .classes = v[3],
                           .reduction = v[4],
                           .rank = v[4],
                           .width = v[4],
                           .kind = side_only ? PAC_TECH_PARALLEL : kinds[v[5]],
                           .alpha = side_only ? 0 : (float)v[6],
                           .separate = !side_only && v[7] != 0};
    for (int64_t l = 0; l < x->L; l++)
        x->o.has_layer[l] = has[l] != 0;
}

static void set_values(network *x, pac_tuned *t)
{
    pac_params *p = pac_tuned_params(t);
    for (int64_t i = 0; i < p->count; i++)
        if (x->o.kind != PAC_TECH_FULL || strncmp(p->v[i].name, "head.", 5) == 0)
            OK(pac_upload(p->space, p->v[i].w, golden_f32(x->f, p->v[i].name, p->v[i].n), p->v[i].n));
}

static void open_slice(network *x, int64_t first, int64_t last, bool learns)
{
    int i = x->slices++;
    int flags = x->o.head == PAC_HEAD_LM ? PAC_LOAD_HEAD : 0;
    OK(pac_model_load(&x->d, x->be, first, last, flags, &x->model[i]));
    OK(pac_tuned_new(&x->d, &x->o, x->be, first, last, learns, &x->tuned[i]));
    OK(pac_tuned_attach(x->tuned[i], x->model[i]));
    set_values(x, x->tuned[i]);
    assert_int_equal(pac_tuned_params(x->tuned[i])->total, pac_tune_slice_parameters(&x->d, &x->o, first, last));
    for (int64_t l = first; l < last; l++)
        x->at[l] = i;
}

void network_open(network *x, const char *model, const pac_st *f, const pac_backend *be, unsigned cuts, bool learns)
{
    *x = (network){.be = be, .f = f, .batch = golden_batch(f)};
    OK(pac_model_describe(golden_path(model, NULL), &x->d));
    x->L = x->d.layers[PAC_ENC] + x->d.layers[PAC_DEC];
    assert_true(x->L <= NETWORK_LAYERS);
    x->rows[PAC_ENC] = x->batch.soff[x->batch.B];
    x->rows[PAC_DEC] = x->batch.toff[x->batch.B];
    x->D = x->d.block[top_of(x)].D;
    read_options(x);
    OK(pac_arena_new_in(be->space, PAC_MEM_ACTIVATIONS, &x->keep));
    OK(pac_arena_new_in(be->space, PAC_MEM_WORK, &x->work));
    if (be->space != NULL && x->batch.value != NULL) {
        float *value; /* below every mark of the scratch arena */
        OK(pac_arena_copy(x->work, x->batch.value, x->batch.B, &value));
        x->batch.value = value;
    }
    for (int64_t first = 0, last; first < x->L; first = last) {
        for (last = first + 1; last < x->L && !(cuts >> (last - 1) & 1); last++)
            continue;
        open_slice(x, first, last, learns);
    }
}

void network_close(network *x)
{
    for (int i = 0; i < x->slices; i++) {
        pac_tuned_free(&x->tuned[i]);
        pac_model_free(&x->model[i]);
    }
    pac_arena_free(&x->keep);
    pac_arena_free(&x->work);
    golden_forget();
}

/* ---- forward ---- */

static void stack_forward(network *x, pac_stack stack, const pac_pass *p)
{
    int64_t base = stack == PAC_ENC ? 0 : x->d.layers[PAC_ENC], end = base + x->d.layers[stack], n = x->rows[stack] * x->D;
    float *rows = floats(x->keep, n), *y;
    OK(pac_model_embed_fwd(model_at(x, base), stack, p, rows, &x->embed[stack]));
    x->acts.b[stack][0] = rows;
    for (int64_t l = base; l < end; l++, rows = y) {
        y = floats(x->keep, n);
        const float *enc = stack == PAC_DEC ? x->out[PAC_ENC] : NULL;
        OK(pac_model_layer_fwd(model_at(x, l), l, p, enc, y, rows, &x->block[l]));
        x->acts.b[stack][l - base + 1] = y;
    }
    y = floats(x->keep, n);
    OK(pac_model_final_fwd(model_at(x, end - 1), stack, p, y, rows, &x->final[stack]));
    x->out[stack] = x->acts.final = y;
}

static pac_pass pass_of(const network *x, bool backward)
{
    return (pac_pass){.batch = &x->batch, .keep = backward ? x->keep : NULL, .work = x->work};
}

/* Rows that a slice does not read are absent, as in a stage of a pipeline. */
static void split_rows(network *x)
{
    bool reads[2][PAC_MAX_LAYERS + 1], final;
    pac_tune_reads(&x->d, &x->o, reads, &final);
    for (int i = 0; i < x->slices; i++)
        x->part[i] = (pac_acts){.final = final && i == x->slices - 1 ? x->acts.final : NULL};
    for (int64_t l = 0, E = x->d.layers[PAC_ENC]; l < x->L; l++) {
        int s = l < E ? PAC_ENC : PAC_DEC;
        int64_t i = s == PAC_ENC ? l : l - E;
        pac_acts *part = &x->part[x->at[l]];
        if (reads[s][i + 1])
            part->b[s][i + 1] = x->acts.b[s][i + 1];
        if (i == 0 && reads[s][0])
            part->b[s][0] = x->acts.b[s][0];
    }
}

static float *side_forward(network *x, bool backward)
{
    pac_pass p = pass_of(x, true);
    float *h = NULL;
    split_rows(x);
    for (int i = 0; i < x->slices; i++) {
        pac_side *side = pac_tuned_side(x->tuned[i]);
        OK(pac_side_fwd(side, &p, &x->part[i], &x->state[i], &x->state[i + 1], &h, backward, &x->side[i]));
        assert_true((h != NULL) == (i == x->slices - 1));
    }
    assert_true(x->state[x->slices].a == NULL && x->state[x->slices].enc == NULL);
    return h;
}

float *network_forward(network *x, bool backward)
{
    bool through = pac_technique_through(x->o.kind);
    pac_pass p = pass_of(x, backward && through);
    pac_arena_reset(x->keep);
    for (int s = 0; s < 2; s++)
        if (x->d.layers[s] > 0)
            stack_forward(x, (pac_stack)s, &p);
    if (!through)
        return side_forward(x, backward);
    float *h = floats(x->keep, x->rows[top_of(x)] * x->D);
    x->be->copy(h, x->out[top_of(x)], x->rows[top_of(x)] * x->D);
    return h;
}

/* ---- head and loss ---- */

float *network_logits(network *x, const float *h, int64_t *count)
{
    bool lm = x->o.head == PAC_HEAD_LM;
    pac_pass p = pass_of(x, true);
    *count = lm ? x->rows[PAC_DEC] * x->d.vocab : x->batch.B * x->o.classes;
    float *logits = floats(x->keep, *count);
    if (lm)
        OK(pac_model_logits(model_at(x, x->L - 1), logits, h, x->rows[PAC_DEC]));
    else
        OK(pac_cls_fwd(x->tuned[x->slices - 1], &p, logits, h));
    return logits;
}

static double cls_loss(network *x, float *logits)
{
    int64_t B = x->batch.B;
    float *loss = floats(x->keep, B);
    double sum = 0;
    if (x->o.classes > 1)
        x->be->xent(loss, logits, x->batch.cls, B, x->o.classes, 1.0f / (float)B, true);
    else
        x->be->mse(loss, logits, x->batch.value, B, 1.0f / (float)B, true);
    const float *each = golden_read(x->be, loss, B);
    for (int64_t b = 0; b < B; b++)
        sum += each[b];
    return sum / (double)B;
}

double network_loss(network *x, float *logits, const float *h, float **dh)
{
    int64_t N = x->rows[top_of(x)];
    pac_pass p = pass_of(x, true);
    *dh = floats(x->keep, N * x->D);
    if (x->o.head == PAC_HEAD_CLASSIFICATION) {
        double loss = cls_loss(x, logits);
        OK(pac_cls_bwd(x->tuned[x->slices - 1], &p, *dh, logits, h));
        return loss;
    }
    double loss = golden_lm_loss(x->be, logits, &x->batch, x->d.vocab, x->keep);
    pac_model_head_bwd(model_at(x, x->L - 1), logits, h, N);
    OK(pac_model_logits_bwd(model_at(x, x->L - 1), *dh, logits, N));
    return loss;
}

/* ---- backward ---- */

static void side_backward(network *x, const float *dh)
{
    pac_pass p = pass_of(x, true);
    pac_side_state d = {0}, din;
    for (int i = x->slices - 1; i >= 0; i--, d = din) {
        const float *top = i == x->slices - 1 ? dh : NULL;
        OK(pac_side_bwd(pac_tuned_side(x->tuned[i]), &p, &x->part[i], &d, top, &din, x->side[i]));
        assert_true((din.a != NULL) == (x->state[i].a != NULL) && (din.enc != NULL) == (x->state[i].enc != NULL));
    }
}

void network_backward(network *x, float *dh)
{
    pac_pass p = pass_of(x, true);
    if (!pac_technique_through(x->o.kind)) {
        side_backward(x, dh);
        return;
    }
    float *denc = floats(x->keep, x->rows[PAC_ENC] * x->D);
    x->be->zero(denc, x->rows[PAC_ENC] * x->D);
    for (int s = top_of(x); s >= 0; s--) {
        pac_stack stack = (pac_stack)s;
        int64_t base = stack == PAC_ENC ? 0 : x->d.layers[PAC_ENC], end = base + x->d.layers[stack];
        bool dec = stack == PAC_DEC;
        float *d = stack == top_of(x) ? dh : denc;
        OK(pac_model_final_bwd(model_at(x, end - 1), stack, &p, d, d, &x->final[stack]));
        for (int64_t l = end - 1; l >= base; l--)
            OK(pac_model_layer_bwd(model_at(x, l), l, &p, dec ? x->out[PAC_ENC] : NULL, d, dec ? denc : NULL, d, x->block[l]));
        OK(pac_model_embed_bwd(model_at(x, base), stack, &p, d, &x->embed[stack]));
    }
}
