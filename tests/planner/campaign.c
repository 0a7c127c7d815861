/*
 * The planner against all plans. Usage: campaign [--small N] [--large N] [--gain N] [--seed S]; without options all of it
 * (minutes).
 *
 * small: pac_plan_best() is never worse than the best of all plans, each scored by pac_plan_predict(), on clusters of up to 4
 * devices and 8 layers; where no plan fits both say so.
 */
#include "instances.h"

#include "../../planner/pac.h"

#include "pac/err.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct options {
    int64_t small, large, gain, skip;
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
    static const instance_kind kind = {1, 4, 1, 8, 1, 16, 1, 8, .least_room = 0.7};
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

/* ---- large ---- */

typedef struct gaps {
    int64_t infeasible, missed;
    double sum, worst, seconds, exact_seconds;
} gaps;

static void measure_gap(const instance *x, int64_t number, gaps *r)
{
    pac_plan_answer large = {0}, exact = {0};
    pac_err found = pac_plan_best_by(&x->q, PAC_WAY_LARGE, &large), fits = pac_plan_best_by(&x->q, PAC_WAY_EXACT, &exact);
    if (fits != PAC_OK) {
        r->infeasible++;
    } else if (found != PAC_OK || !plan_is_sound(x, &large.plan)) {
        printf("  MISSED, instance %lld: %s\n", (long long)number, found != PAC_OK ? pac_err_message() : "unsound");
        r->missed++;
    } else {
        double gap = large.plan.predicted.total_s / exact.plan.predicted.total_s - 1;
        if (gap > 0.03)
            printf("  instance %lld: gap %.3g %%\n    found %s | %s | %s M %lld\n    best  %s | %s | %s M %lld\n",
                   (long long)number, 100 * gap, large.candidate[0].shape, large.candidate[0].layers,
                   large.candidate[0].devices, (long long)large.plan.microbatches, exact.candidate[0].shape,
                   exact.candidate[0].layers, exact.candidate[0].devices, (long long)exact.plan.microbatches);
        r->sum += gap;
        r->worst = fmax(r->worst, gap);
        r->seconds += large.seconds;
        r->exact_seconds += exact.seconds;
    }
    pac_plan_answer_free(&large);
    pac_plan_answer_free(&exact);
}

static bool run_large(const options *o)
{
    static const instance_kind kind = {5, 6, 2, 8, 1, 16, 1, 8, .least_room = 1.2};
    gaps r = {0};
    for (int64_t i = o->skip; i < o->large; i++) {
        instance x;
        make_instance(&x, &kind, o->seed + 1000, (uint64_t)i);
        measure_gap(&x, i, &r);
        progress("large", i, o->large);
    }
    double fitting = (double)(o->large - r.infeasible - r.missed), mean = fitting > 0 ? r.sum / fitting : 0;
    printf("large: %lld instances of 5 and 6 devices, 2 to 8 layers, batches 1 to 16, by local search; gap to the optimum: "
           "mean %.3g %%, "
           "worst %.3g %%; %lld do not fit, %lld missed; %.3g s each (exact: %.3g s)\n",
           (long long)o->large, 100 * mean, 100 * r.worst, (long long)r.infeasible, (long long)r.missed,
           r.seconds / fmax(fitting, 1), r.exact_seconds / fmax(fitting, 1));
    return r.missed == 0 && mean <= 0.02 && r.worst <= 0.1;
}

/* ---- gain ---- */

enum { FIRST_DEVICES = 2, LAST_DEVICES = 5, RATIOS = 3 };

typedef struct gain {
    int64_t n;
    double unequal, pac; /* sums of 1 - seconds / seconds of equal shares and cuts */
} gain;

static void measure_gain(const instance *x, gain *g)
{
    double equal = best_in_order(x, EQUAL), unequal = best_in_order(x, UNEQUAL);
    pac_plan_answer a = {0};
    if (pac_plan_best(&x->q, &a) == PAC_OK && isfinite(equal)) {
        g->n++;
        g->unequal += 1 - unequal / equal;
        g->pac += 1 - a.plan.predicted.total_s / equal;
    }
    pac_plan_answer_free(&a);
}

static void add_gain(gain *to, const gain *g)
{
    to->n += g->n;
    to->unequal += g->unequal;
    to->pac += g->pac;
}

static void print_gain(const char *name, const gain *g)
{
    printf("| %s | %lld | %.1f %% | %.1f %% |\n", name, (long long)g->n, 100 * g->unequal / (double)g->n,
           100 * g->pac / (double)g->n);
}

static bool run_gain(const options *o)
{
    static const double ratio[RATIOS + 1] = {2, 3, 5, 8};
    gain all = {0}, by_devices[LAST_DEVICES + 1] = {0}, by_ratio[RATIOS] = {0};
    int64_t cells = RATIOS * (LAST_DEVICES - FIRST_DEVICES + 1);
    for (int64_t i = 0; i < o->gain; i++) {
        int64_t r = i % cells % RATIOS, D = FIRST_DEVICES + i % cells / RATIOS;
        instance_kind kind = {D, D, 4, 10, 4, 16, ratio[r], ratio[r + 1], .plain = true};
        instance x;
        gain g = {0};
        make_instance(&x, &kind, o->seed + 2000, (uint64_t)i);
        measure_gain(&x, &g);
        add_gain(&all, &g);
        add_gain(&by_devices[D], &g);
        add_gain(&by_ratio[r], &g);
        progress("gain", i, o->gain);
    }
    printf("\nSeconds saved against equal shares and cuts (best groups and M, with cache or without), mean:\n"
           "| | instances | unequal shares and cuts, same order | pac: any order, devices left out |\n|---|---|---|---|\n");
    for (int64_t r = 0; r < RATIOS && o->gain >= cells; r++) {
        char name[96];
        snprintf(name, sizeof name, "fastest %g to %g times as fast as the slowest", ratio[r], ratio[r + 1]);
        print_gain(name, &by_ratio[r]);
    }
    for (int64_t D = FIRST_DEVICES; D <= LAST_DEVICES && o->gain >= cells; D++) {
        char name[96];
        snprintf(name, sizeof name, "%d devices", (int)D);
        print_gain(name, &by_devices[D]);
    }
    if (o->gain > 0)
        print_gain("all", &all);
    return o->gain == 0 || all.unequal >= 0.1 * (double)all.n;
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
        else if (strcmp(argv[i], "--skip") == 0)
            o->skip = n;
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
    good = run_large(&o) && good;
    good = run_gain(&o) && good;
    printf("%s\n", good ? "all bounds hold" : "BOUNDS BROKEN");
    return good ? 0 : 1;
}
