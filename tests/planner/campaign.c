/*
 * The planner against all plans. Usage: campaign [--small N] [--large N] [--gain N] [--seed S]; without options all of it
 * (minutes).
 *
 * small: pac_plan_best() is never worse than the best of all plans, each scored by pac_plan_predict(), on clusters of up to 4
 * devices and 8 layers; where no plan fits both say so.
 */
#include "instances.h"

#include "pac/err.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct options {
    int64_t small, large, gain;
    uint64_t seed;
} options;

static void progress(const char *what, int64_t i, int64_t n)
{
    if ((i + 1) % 100 == 0 || i + 1 == n) {
        printf("  %s: %lld of %lld\n", what, (long long)(i + 1), (long long)n);
        fflush(stdout);
    }
}

/* ---- small ---- */

typedef struct small_result {
    int64_t infeasible, plans, wrong;
    double worst; /* pac / best - 1 */
} small_result;

static void compare(const instance *x, int64_t number, small_result *r)
{
    int64_t plans;
    double best = best_of_all(x, &plans), found = INFINITY;
    pac_plan_answer a = {0};
    pac_err err = pac_plan_best(&x->q, &a);
    bool sound = true;
    if (err == PAC_OK) {
        found = a.plan.predicted.total_s;
        sound = plan_is_sound(x, &a.plan);
    }
    r->plans += plans;
    r->infeasible += isinf(best);
    bool says_so = err == PAC_ENOMEM && strstr(pac_err_message(), "no plan fits") != NULL;
    bool same = isinf(best) ? says_so || (err == PAC_OK && sound) : err == PAC_OK && sound && found <= best * (1 + 1e-12);
    if (!same) {
        printf("  WRONG, instance %lld: best of all %.9g, pac %.9g%s (%s)\n", (long long)number, best, found,
               sound ? "" : ", unsound", err == PAC_OK ? "a plan" : pac_err_message());
        r->wrong++;
    } else if (!isinf(best)) {
        r->worst = fmax(r->worst, found / best - 1);
    }
    pac_plan_answer_free(&a);
}

static bool run_small(const options *o)
{
    static const instance_kind kind = {1, 4, 1, 8, 1, 16, 1, 8, false, false};
    small_result r = {.worst = -INFINITY};
    for (int64_t i = 0; i < o->small; i++) {
        instance x;
        make_instance(&x, &kind, o->seed, (uint64_t)i);
        compare(&x, i, &r);
        progress("small", i, o->small);
    }
    printf("small: %lld instances of 1 to 4 devices, 1 to 8 layers, batches 1 to 16; %lld plans tried; %lld do not fit; worst "
           "gap %.3g; "
           "%lld wrong\n",
           (long long)o->small, (long long)r.plans, (long long)r.infeasible, r.worst, (long long)r.wrong);
    return r.wrong == 0;
}

/* ---- options ---- */

static bool read_options(int argc, char **argv, options *o)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        int64_t n = strtoll(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--small") == 0)
            o->small = n;
        else if (strcmp(argv[i], "--large") == 0)
            o->large = n;
        else if (strcmp(argv[i], "--gain") == 0)
            o->gain = n;
        else if (strcmp(argv[i], "--seed") == 0)
            o->seed = (uint64_t)n;
        else
            return false;
    }
    return argc % 2 == 1;
}

int main(int argc, char **argv)
{
    options o = {.small = 2000, .large = 500, .gain = 500, .seed = 1};
    if (!read_options(argc, argv, &o)) {
        fprintf(stderr, "usage: campaign [--small N] [--large N] [--gain N] [--seed S]\n");
        return 2;
    }
    bool good = true;
    good = run_small(&o) && good;
    return good ? 0 : 1;
}
