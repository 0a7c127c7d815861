/*
 * A list of parameters over two flat arrays, values and gradients: optimizers, all-reduces and files see one vector, layers see
 * their own piece.
 */
#include "params.h"

#include <string.h>

pac_err pac_params_init(pac_params *p, const pac_param *list, int64_t count, const pac_space *space, bool learns)
{
    void *v = NULL, *w = NULL, *g = NULL;
    pac_err err;
    int64_t total = 0;
    for (int64_t i = 0; i < count; i++)
        total += list[i].n;
    PAC_GO(pac_mem_array(PAC_MEM_OTHER, count, sizeof *list, &v));
    PAC_GO(pac_space_array(space, PAC_MEM_TUNED, total, sizeof(float), &w));
    if (learns)
        PAC_GO(pac_space_array(space, PAC_MEM_GRADIENTS, total, sizeof(float), &g));
    *p = (pac_params){.count = count, .total = total, .v = v, .w = w, .g = g, .space = space};
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
    pac_space_free(space, w);
    pac_space_free(space, g);
    return err;
}

void pac_params_free(pac_params *p)
{
    if (p == NULL)
        return;
    pac_mem_free(p->v);
    pac_space_free(p->space, p->w);
    pac_space_free(p->space, p->g);
    *p = (pac_params){0};
}

pac_err pac_params_open(const pac_params *p, float **values)
{
    void *copy;
    *values = p->w;
    if (p->space == NULL)
        return PAC_OK;
    PAC_TRY(pac_mem_array(PAC_MEM_WORK, p->total, sizeof(float), &copy));
    *values = copy;
    pac_err err = pac_download(p->space, *values, p->w, p->total);
    if (err != PAC_OK)
        pac_mem_free(copy);
    return err;
}

pac_err pac_params_close(const pac_params *p, float *values, bool keep)
{
    if (p->space == NULL)
        return PAC_OK;
    pac_err err = keep ? pac_upload(p->space, p->w, values, p->total) : PAC_OK;
    pac_mem_free(values);
    return err;
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
        PAC_TRY(pac_move(to->space, to->v[i].w, p->w, p->n));
    }
    return PAC_OK;
}
