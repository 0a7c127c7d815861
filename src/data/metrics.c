/*
 * Metrics. Predictions become numbers first (a class, a score, right or wrong); the formulas see only numbers. Degenerate
 * inputs give 0, never NaN: a run whose model says the same for every row is bad, not broken.
 */
#include "task.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NO_CLASS = -1 };

static void put(pac_metrics *m, const char *name, double value)
{
    snprintf(m->v[m->count].name, sizeof m->v[m->count].name, "%s", name);
    m->v[m->count++].value = value;
}

/* ---- classes ---- */

static int64_t predicted_class(const pac_task *t, const char *text, double score)
{
    if (text == NULL)
        return score >= 0 && score < (double)t->classes ? (int64_t)score : NO_CLASS;
    for (int64_t c = 0; t->words[c] != NULL; c++)
        if (strcmp(text, t->words[c]) == 0)
            return c;
    return NO_CLASS;
}

/* counts[gold][predicted]; the column after the last class is "no class". */
static void confusion(const pac_task *t, const pac_gold *gold, const char *const *text, const double *score,
                      int64_t counts[2][3])
{
    for (int64_t i = 0; i < gold->rows; i++) {
        int64_t p = predicted_class(t, text != NULL ? text[i] : NULL, score != NULL ? score[i] : 0);
        counts[gold->label[i] >= 1][p == NO_CLASS ? 2 : p]++;
    }
}

pac_err pac_metrics_accuracy(const pac_task *t, const pac_gold *gold, const char *const *text, const double *score,
                             pac_metrics *out)
{
    int64_t counts[2][3] = {{0}};
    confusion(t, gold, text, score, counts);
    put(out, "accuracy", (double)(counts[0][0] + counts[1][1]) / (double)gold->rows);
    return PAC_OK;
}

/* F1 = 2 TP / (2 TP + FP + FN); an output that is no label is a missed positive where the gold value is positive. */
pac_err pac_metrics_accuracy_f1(const pac_task *t, const pac_gold *gold, const char *const *text, const double *score,
                                pac_metrics *out)
{
    int64_t counts[2][3] = {{0}};
    confusion(t, gold, text, score, counts);
    PAC_TRY(pac_metrics_accuracy(t, gold, text, score, out));
    double tp = (double)counts[1][1], fp = (double)counts[0][1], fn = (double)(counts[1][0] + counts[1][2]);
    put(out, "f1", 2 * tp + fp + fn > 0 ? 2 * tp / (2 * tp + fp + fn) : 0);
    return PAC_OK;
}

/* ---- scores ---- */

static double predicted_score(const char *text)
{
    char *end;
    size_t n = strspn(text, "0123456789.eE+-");
    double v = strtod(text, &end);
    return n > 0 && text[n] == '\0' && *end == '\0' && isfinite(v) ? v : 0;
}

/* r = sum (x - mx)(y - my) / sqrt(sum (x - mx)^2 sum (y - my)^2); 0 if x or y is constant. */
static double pearson(const double *x, const double *y, int64_t n)
{
    double mx = 0, my = 0, xx = 0, yy = 0, xy = 0;
    for (int64_t i = 0; i < n; i++) {
        mx += x[i] / (double)n;
        my += y[i] / (double)n;
    }
    bool x_varies = false, y_varies = false; /* rounding in the mean must not make a constant vary */
    for (int64_t i = 0; i < n; i++) {
        xx += (x[i] - mx) * (x[i] - mx);
        yy += (y[i] - my) * (y[i] - my);
        xy += (x[i] - mx) * (y[i] - my);
        x_varies |= x[i] != x[0];
        y_varies |= y[i] != y[0];
    }
    double r = xy / (sqrt(xx) * sqrt(yy));
    return x_varies && y_varies && isfinite(r) ? fmax(-1, fmin(1, r)) : 0;
}

typedef struct ranked {
    double value;
    int64_t at;
} ranked;

static int by_value(const void *a, const void *b)
{
    double x = ((const ranked *)a)->value, y = ((const ranked *)b)->value;
    return (x > y) - (x < y);
}

/* Ranks from 1; equal values share the average of their ranks. */
static void ranks(const double *x, int64_t n, ranked *sorted, double *rank)
{
    for (int64_t i = 0; i < n; i++)
        sorted[i] = (ranked){x[i], i};
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    for (int64_t i = 0, j; i < n; i = j) {
        for (j = i; j < n && sorted[j].value == sorted[i].value; j++)
            ;
        for (int64_t k = i; k < j; k++)
            rank[sorted[k].at] = (double)(i + j + 1) / 2;
    }
}

pac_err pac_metrics_correlation(const pac_task *t, const pac_gold *gold, const char *const *text, const double *score,
                                pac_metrics *out)
{
    (void)t;
    pac_err err = PAC_OK;
    int64_t n = gold->rows;
    void *numbers = NULL, *sorted = NULL;
    PAC_GO(pac_mem_array(PAC_MEM_WORK, n, 3 * sizeof(double), &numbers));
    PAC_GO(pac_mem_array(PAC_MEM_WORK, n, sizeof(ranked), &sorted));
    double *predicted = numbers, *rank = predicted + n, *gold_rank = rank + n;
    for (int64_t i = 0; i < n; i++)
        predicted[i] = text != NULL ? predicted_score(text[i]) : isfinite(score[i]) ? score[i] : 0;
    ranks(predicted, n, sorted, rank);
    ranks(gold->label, n, sorted, gold_rank);
    put(out, "pearson", pearson(predicted, gold->label, n));
    put(out, "spearman", pearson(rank, gold_rank, n));
out:
    pac_mem_free(numbers);
    pac_mem_free(sorted);
    return err;
}

/* ---- texts ---- */

/* Equal but for white space: runs count as one space, none at the ends (SentencePiece writes texts so). */
static bool same_text(const char *a, const char *b)
{
    static const char blank[] = " \t\r\n";
    a += strspn(a, blank);
    b += strspn(b, blank);
    while (*a != '\0' && *b != '\0') {
        size_t n = strcspn(a, blank);
        if (n != strcspn(b, blank) || memcmp(a, b, n) != 0)
            return false;
        a += n;
        b += n;
        a += strspn(a, blank);
        b += strspn(b, blank);
    }
    return *a == *b;
}

pac_err pac_metrics_exact(const pac_task *t, const pac_gold *gold, const char *const *text, const double *score,
                          pac_metrics *out)
{
    (void)t, (void)score;
    int64_t right = 0;
    for (int64_t i = 0; i < gold->rows; i++)
        right += same_text(text[i], gold->target[i]);
    put(out, "exact_match", (double)right / (double)gold->rows);
    return PAC_OK;
}
