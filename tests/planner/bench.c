/* How long planning takes: prints seconds (of wall time and of the processor), asserts nothing. */
#include "instances.h"

#include "pac/err.h"

#include <stdio.h>
#include <time.h>

/* The last of each size has equal devices and layers, where bounds tell plans apart least. */
static void make_equal(instance *x)
{
    for (int64_t d = 1; d < x->p.devices; d++)
        x->device[d] = x->device[0];
    for (int64_t l = 1; l < x->p.layers_enc + x->p.layers_dec; l++) {
        x->layer[l] = x->layer[0];
        x->fwd[l + 1] = x->fwd[1];
        x->bwd[l + 1] = x->bwd[1];
    }
    for (int64_t i = 0; i < x->p.devices * x->p.devices; i++) {
        x->bandwidth[i] = 1e9;
        x->latency[i] = 1e-4;
    }
}

static void measure(int64_t devices, int64_t layers, int64_t batch)
{
    instance_kind kind = {devices, devices, layers, layers, batch, batch, 2, 8, .least_room = 1.5, .plain = true};
    for (uint64_t i = 0; i < 4; i++) {
        static instance x;
        make_instance(&x, &kind, 9, i);
        if (i == 3)
            make_equal(&x);
        pac_plan_answer a = {0};
        clock_t start = clock();
        pac_err err = pac_plan_best(&x.q, &a);
        double cpu = (double)(clock() - start) / CLOCKS_PER_SEC;
        printf("%2d devices, %2d layers, batch %3d: %.3f s (processor %.3f s), a run of %.6g s, %s\n", (int)devices,
               (int)layers, (int)batch, a.seconds, cpu, a.plan.predicted.total_s,
               err == PAC_OK ? a.candidate[0].shape : pac_err_message());
        pac_plan_answer_free(&a);
    }
}

int main(void)
{
    measure(4, 8, 16);
    measure(3, 24, 16);
    measure(3, 48, 16);
    measure(4, 12, 16);
    measure(4, 24, 16);
    measure(4, 48, 16);
    measure(5, 8, 16);
    measure(5, 12, 16);
    measure(8, 24, 16);
    measure(8, 48, 16);
    measure(8, 48, 32);
    measure(16, 48, 32);
    measure(64, 96, 16);
    measure(64, 96, 64);
    return 0;
}
