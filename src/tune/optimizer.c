/* Optimizers over the flat arrays of a parameter list, and learning-rate schedules. */
#include "pac/tune.h"

pac_err pac_optimizer_new(const pac_optimizer_opts *o, const pac_space *space, int64_t total, pac_optimizer **out)
{
    void *p, *m = NULL, *v = NULL;
    pac_err err;
    PAC_CHECK(total >= 0, PAC_EINVAL, "an optimizer for %lld parameters", (long long)total);
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, sizeof(pac_optimizer), &p));
    if (o->kind == PAC_ADAMW) {
        PAC_GO(pac_space_array(space, PAC_MEM_OPTIMIZER, total, sizeof(float), &m));
        PAC_GO(pac_space_array(space, PAC_MEM_OPTIMIZER, total, sizeof(float), &v));
    }
    *(pac_optimizer *)p = (pac_optimizer){.opts = *o, .total = total, .m = m, .v = v, .space = space};
    *out = p;
    return PAC_OK;
out:
    pac_space_free(space, m);
    pac_mem_free(p);
    return err;
}

void pac_optimizer_free(pac_optimizer **o)
{
    if (o == NULL || *o == NULL)
        return;
    pac_space_free((*o)->space, (*o)->m);
    pac_space_free((*o)->space, (*o)->v);
    pac_mem_free(*o);
    *o = NULL;
}

void pac_optimizer_step(pac_optimizer *o, const pac_backend *be, pac_params *p, float lr, float scale)
{
    o->step++;
    if (scale != 1.0f)
        be->scale(p->g, p->total, scale);
    if (o->opts.kind == PAC_ADAMW) {
        pac_adamw a = {.lr = lr,
                       .beta1 = o->opts.beta1,
                       .beta2 = o->opts.beta2,
                       .eps = o->opts.eps,
                       .weight_decay = o->opts.weight_decay,
                       .step = o->step};
        be->adamw(p->w, o->m, o->v, p->g, p->total, &a);
    } else {
        be->sgd(p->w, p->g, p->total, lr, o->opts.weight_decay);
    }
    be->zero(p->g, p->total);
}

float pac_lr_at(int64_t i, int64_t n, float lr, int64_t warmup, bool linear)
{
    if (i < warmup)
        return lr * (float)i / (float)warmup;
    if (!linear)
        return lr;
    int64_t left = n - i, span = n - warmup;
    if (left <= 0)
        return 0;
    return lr * (float)left / (float)(span > 0 ? span : 1);
}
