/*
 * A list of parameters over two flat arrays, values and gradients: optimizers, all-reduces and files see one vector, layers see
 * their own piece.
 */
#include "params.h"

#include <string.h>

pac_err pac_params_init(pac_params *p, const pac_param *list, int64_t count)
{
    void *v = NULL, *w = NULL, *g = NULL;
    pac_err err;
    int64_t total = 0;
    for (int64_t i = 0; i < count; i++)
        total += list[i].n;
    PAC_GO(pac_mem_array(PAC_MEM_OTHER, count, sizeof *list, &v));
    PAC_GO(pac_mem_array(PAC_MEM_TUNED, total, sizeof(float), &w));
    PAC_GO(pac_mem_array(PAC_MEM_GRADIENTS, total, sizeof(float), &g));
    *p = (pac_params){.count = count, .total = total, .v = v, .w = w, .g = g};
    if (count > 0)
        memcpy(p->v, list, (size_t)count * sizeof *list);
    total = 0;
    for (int64_t i = 0; i < count; total += list[i++].n) {
        p->v[i].w = p->w + total;
        p->v[i].g = p->g + total;
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
