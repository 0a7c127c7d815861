/*
 * A list of parameters over two flat arrays, values and gradients: optimizers, all-reduces and files see one vector, layers see
 * their own piece.
 */
#include "params.h"

#include <string.h>

pac_err pac_params_init(pac_params *p, const pac_param *list, int64_t count, bool learns)
{
    void *v = NULL, *w = NULL, *g = NULL;
    pac_err err;
    int64_t total = 0;
    for (int64_t i = 0; i < count; i++)
        total += list[i].n;
    PAC_GO(pac_mem_array(PAC_MEM_OTHER, count, sizeof *list, &v));
    PAC_GO(pac_mem_array(PAC_MEM_TUNED, total, sizeof(float), &w));
    if (learns)
        PAC_GO(pac_mem_array(PAC_MEM_GRADIENTS, total, sizeof(float), &g));
    *p = (pac_params){.count = count, .total = total, .v = v, .w = w, .g = g};
    if (count > 0)
        memcpy(p->v, list, (size_t)count * sizeof *list);
    total = 0;
    for (int64_t i = 0; i < count; total += list[i++].n) {
        p->v[i].w = p->w + total;
        p->v[i].g = learns ? p->g + total : NULL;
    }
    return PAC_OK;
out:
    pac_mem_free(v);
    pac_mem_free(w);
    pac_mem_free(g);
    return err;
}

void pac_params_free(pac_params *p)
{
    if (p == NULL)
        return;
    pac_mem_free(p->v);
    pac_mem_free(p->w);
    pac_mem_free(p->g);
    *p = (pac_params){0};
}

bool pac_param_in(const pac_param *p, int64_t first, int64_t last)
{
    for (int i = 0; i < p->uses && first < last; i++)
        if (p->use[i].first < last && p->use[i].last >= first)
            return true;
    return false;
}

const pac_param *pac_params_find(const pac_params *p, const char *name, int64_t *from)
{
    for (int64_t i = *from; i < p->count; i++)
        if (strcmp(p->v[i].name, name) == 0) {
            *from = i + 1;
            return &p->v[i];
        }
    return NULL;
}

pac_err pac_params_copy(const pac_params *to, const pac_params *from)
{
    int64_t at = 0;
    for (int64_t i = 0; i < to->count; i++) {
        const pac_param *p = pac_params_find(from, to->v[i].name, &at);
        PAC_CHECK(p != NULL && p->n == to->v[i].n, PAC_EINTERNAL, "parameter %s is not in the other list", to->v[i].name);
        memcpy(to->v[i].w, p->w, (size_t)p->n * sizeof(float));
    }
    return PAC_OK;
}
