/*
 * Byte pair merging: symbols are a linked list, the possible merges a heap ordered by (rank, position). An entry whose symbols
 * have changed since is stale and dropped when it comes up.
 *
 * Source: Hugging Face tokenizers, models/bpe/word.rs, merge_all().
 */
#include "bpe_merge.h"

#include <string.h>

/* ---- the table ---- */

static int64_t slot_of(const pac_merges *m, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    uint64_t mask = (uint64_t)m->slots - 1;
    for (uint64_t i = (h ^ h >> 32) & mask;; i = (i + 1) & mask)
        if (m->slot[i].left < 0 || (m->slot[i].left == left && m->slot[i].right == right))
            return (int64_t)i;
}

static const pac_merge *find(const pac_merges *m, int32_t left, int32_t right)
{
    const pac_merge *found = &m->slot[slot_of(m, left, right)];
    return found->left >= 0 ? found : NULL;
}

typedef struct line_of {
    const char *path, *s;
    int64_t n;
    int64_t number;
} line_of;

static int32_t token_of(const pac_vocab *v, const char *s, int64_t n)
{
    return n > 0 ? pac_vocab_find(v, s, n) : -1;
}

/* "left right": both, and the two joined, are tokens. `joined` has room for the line. */
static pac_err read_line(const line_of *l, const pac_vocab *v, char *joined, pac_merge *out)
{
    const char *space = memchr(l->s, ' ', (size_t)l->n);
    int64_t left = space != NULL ? space - l->s : 0, right = l->n - left - 1;
    PAC_CHECK(space != NULL && left > 0 && right > 0 && memchr(space + 1, ' ', (size_t)right) == NULL, PAC_EDATA,
              "%s:%lld: two tokens separated by one space are expected", l->path, (long long)l->number);
    memcpy(joined, l->s, (size_t)left);
    memcpy(joined + left, space + 1, (size_t)right);
    pac_merge m = {token_of(v, l->s, left), token_of(v, space + 1, right), (int32_t)l->number,
                   token_of(v, joined, left + right)};
    PAC_CHECK(m.left >= 0 && m.right >= 0 && m.becomes >= 0, PAC_EDATA,
              "%s:%lld: \"%.*s\": %s is not in vocab.json; the two files belong to different models", l->path,
              (long long)l->number, (int)(l->n < 80 ? l->n : 80), l->s,
              m.left < 0    ? "the first token"
              : m.right < 0 ? "the second token"
                            : "the joined token");
    *out = m;
    return PAC_OK;
}

static pac_err read_lines(const pac_tokenizer_file *file, const pac_vocab *v, char *joined, pac_merges *m)
{
    static const char version[] = "#version";
    line_of l = {.path = file->path};
    for (const char *s = file->data, *end = s + file->bytes; s < end; s += l.n + 1) {
        const char *stop = memchr(s, '\n', (size_t)(end - s));
        l.s = s;
        l.n = stop != NULL ? stop - s : end - s;
        l.number++;
        line_of bare = l;
        if (bare.n > 0 && s[bare.n - 1] == '\r')
            bare.n--;
        bool last = s + l.n + 1 >= end;
        if ((bare.n == 0 && last) || (bare.n >= (int64_t)strlen(version) && memcmp(s, version, strlen(version)) == 0))
            continue;
        pac_merge merge;
        PAC_TRY(read_line(&bare, v, joined, &merge));
        m->slot[slot_of(m, merge.left, merge.right)] = merge;
    }
    return PAC_OK;
}

pac_err pac_merges_read(const pac_tokenizer_file *file, const pac_vocab *v, pac_merges *out)
{
    PAC_CHECK(file->bytes < INT32_MAX, PAC_EDATA, "%s: larger than any list of merges", file->path);
    int64_t lines = 1;
    for (int64_t i = 0; i < file->bytes; i++)
        lines += file->data[i] == '\n';
    pac_merges m = {.slots = 16};
    while (m.slots < 2 * lines)
        m.slots *= 2;
    void *block, *joined = NULL;
    PAC_TRY(pac_mem_array(PAC_MEM_DATA, m.slots, sizeof(pac_merge), &block));
    m.slot = block;
    for (int64_t i = 0; i < m.slots; i++)
        m.slot[i].left = -1;
    pac_err err = pac_mem_alloc(PAC_MEM_DATA, (size_t)file->bytes + 1, &joined);
    if (err == PAC_OK)
        err = read_lines(file, v, joined, &m);
    pac_mem_free(joined);
    if (err != PAC_OK)
        pac_merges_free(&m);
    else
        *out = m;
    return err;
}

void pac_merges_free(pac_merges *m)
{
    pac_mem_free(m->slot);
    *m = (pac_merges){0};
}

/* ---- one word ---- */

typedef struct symbol {
    int32_t id;            /* -1: swallowed by its left neighbour */
    int64_t before, after; /* -1: the end */
} symbol;

typedef struct candidate {
    int32_t rank, becomes;
    int64_t at; /* of the left symbol */
} candidate;

typedef struct queue {
    candidate *heap;
    int64_t n;
} queue;

static bool comes_first(const candidate *a, const candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void push(queue *q, candidate c)
{
    int64_t i = q->n++;
    for (; i > 0 && comes_first(&c, &q->heap[(i - 1) / 2]); i = (i - 1) / 2)
        q->heap[i] = q->heap[(i - 1) / 2];
    q->heap[i] = c;
}

static candidate pop(queue *q)
{
    candidate top = q->heap[0], last = q->heap[--q->n];
    int64_t i = 0;
    for (;;) {
        int64_t child = 2 * i + 1;
        if (child >= q->n)
            break;
        if (child + 1 < q->n && comes_first(&q->heap[child + 1], &q->heap[child]))
            child++;
        if (!comes_first(&q->heap[child], &last))
            break;
        q->heap[i] = q->heap[child];
        i = child;
    }
    q->heap[i] = last;
    return top;
}

static void consider(const pac_merges *m, const symbol *s, int64_t at, queue *q)
{
    if (at < 0 || s[at].after < 0)
        return;
    const pac_merge *merge = find(m, s[at].id, s[s[at].after].id);
    if (merge != NULL)
        push(q, (candidate){merge->rank, merge->becomes, at});
}

static void merge_all(const pac_merges *m, symbol *s, queue *q)
{
    while (q->n > 0) {
        candidate c = pop(q);
        int64_t right = s[c.at].after;
        if (s[c.at].id < 0 || right < 0)
            continue;
        const pac_merge *now = find(m, s[c.at].id, s[right].id);
        if (now == NULL || now->becomes != c.becomes)
            continue;
        s[c.at].id = c.becomes;
        s[c.at].after = s[right].after;
        s[right].id = -1;
        if (s[c.at].after >= 0)
            s[s[c.at].after].before = c.at;
        consider(m, s, s[c.at].before, q);
        consider(m, s, c.at, q);
    }
}

pac_err pac_merges_apply(const pac_merges *m, const int32_t *word, int64_t n, pac_merge_work *w, pac_ids *out)
{
    /* Each of the at most n - 1 merges adds two candidates to the n - 1 of the start. */
    PAC_TRY(pac_mem_grow(PAC_MEM_DATA, &w->symbols, &w->symbols_capacity, n, sizeof(symbol)));
    PAC_TRY(pac_mem_grow(PAC_MEM_DATA, &w->heap, &w->heap_capacity, 3 * n, sizeof(candidate)));
    symbol *s = w->symbols;
    queue q = {.heap = w->heap};
    for (int64_t i = 0; i < n; i++)
        s[i] = (symbol){word[i], i - 1, i + 1 < n ? i + 1 : -1};
    for (int64_t i = 0; i < n; i++)
        consider(m, s, i, &q);
    merge_all(m, s, &q);
    for (int64_t i = 0; i >= 0; i = s[i].after)
        PAC_TRY(pac_ids_push(out, s[i].id));
    return PAC_OK;
}

void pac_merge_work_free(pac_merge_work *w)
{
    pac_mem_free(w->symbols);
    pac_mem_free(w->heap);
    *w = (pac_merge_work){0};
}
