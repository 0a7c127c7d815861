/*
 * usage: check_written ANSWERS.jsonl LOGITS.safetensors END_ID MAX_NEW   (of pac predict --logits, rows without labels)
 * Every token that was written, one position at a time, must be the best by the logits of the whole sequence, made again in one
 * pass with the decoder forced to it; of beam search the score must be the mean log p by these logits. And the rows must be
 * worth it: uneven lengths, one that ends early, one that does not.
 */
#include "pac/safetensors.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const double TIE = 1e-4; /* of a logit of order 1: f32 sums in another order */

/* Does id have the highest of V logits? */
static int is_best(const float *logits, int64_t V, int64_t id)
{
    for (int64_t v = 0; v < V; v++)
        if (logits[v] > logits[id] + TIE)
            return 0;
    return 1;
}

static double log_p(const float *logits, int64_t V, int64_t id)
{
    double sum = 0;
    for (int64_t v = 0; v < V; v++)
        sum += exp((double)logits[v] - (double)logits[id]);
    return -log(sum);
}

/* score NULL: greedy */
static int check_row(const pac_st *logits, int row, const json_t *ids, const json_t *score, int64_t end, int64_t max_new)
{
    double sum = 0;
    char name[32];
    pac_tensor t = {0};
    int64_t n = (int64_t)json_array_size(ids);
    snprintf(name, sizeof name, "logits.%d", row);
    bool found;
    pac_st_find(logits, name, &found, &t);
    if (!found || n < 1 || n > max_new || t.ndim != 2 || t.shape[0] != n) {
        printf("row %d: %lld tokens without their logits\n", row, (long long)n);
        return 0;
    }
    for (int64_t i = 0; i < n; i++) {
        int64_t id = json_integer_value(json_array_get(ids, (size_t)i));
        const float *at = (const float *)t.data + i * t.shape[1];
        bool last = i + 1 == n, ended = id == end, in = id >= 0 && id < t.shape[1];
        sum += in ? log_p(at, t.shape[1], id) : 0;
        if (!in || (score == NULL && !is_best(at, t.shape[1], id)) || (ended && !last) || (last && !ended && n < max_new)) {
            printf("row %d: token %lld is %lld\n", row, (long long)i, (long long)id);
            return 0;
        }
    }
    if (score != NULL && !(fabs(json_number_value(score) - sum / (double)n) < TIE)) {
        printf("row %d: score %g, by the whole sequence %g\n", row, json_number_value(score), sum / (double)n);
        return 0;
    }
    return 1;
}

int main(int argc, char **argv)
{
    static char line[1 << 16];
    pac_st *logits;
    if (argc != 5 || pac_st_open(argv[2], &logits) != PAC_OK)
        return 2;
    FILE *f = fopen(argv[1], "r");
    int rows = 0, ok = f != NULL, greedy = 1;
    int64_t end = strtoll(argv[3], NULL, 10), max_new = strtoll(argv[4], NULL, 10), shortest = max_new, longest = 0;
    while (ok && fgets(line, sizeof line, f) != NULL) {
        json_t *o = json_loads(line, 0, NULL);
        const json_t *ids = json_object_get(o, "output_ids"), *score = json_object_get(o, "score");
        int64_t n = (int64_t)json_array_size(ids);
        shortest = n < shortest ? n : shortest;
        longest = n > longest ? n : longest;
        ok = check_row(logits, rows++, ids, score, end, max_new);
        greedy = score == NULL;
        json_decref(o);
    }
    if (f != NULL)
        fclose(f);
    pac_st_close(&logits);
    printf("%d rows of %lld to %lld tokens\n", rows, (long long)shortest, (long long)longest);
    return ok && rows > 0 && (!greedy || (shortest < longest && shortest < max_new)) ? 0 : 1;
}
