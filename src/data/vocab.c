/*
 * A vocabulary as one piece of text, spans of it by id, and a hash table of ids that is at most half full.
 */
#include "vocab.h"

#include <string.h>
#include <xxhash.h>

/* The slot that holds the token, or the free one where it would go. */
static int64_t slot_of(const pac_vocab *v, const char *text, int64_t bytes)
{
    uint64_t mask = (uint64_t)v->slots - 1;
    for (uint64_t i = XXH3_64bits(text, (size_t)bytes) & mask;; i = (i + 1) & mask) {
        if (v->slot[i] < 0)
            return (int64_t)i;
        const pac_token *t = &v->token[v->slot[i]];
        if (t->bytes == bytes && memcmp(v->text + t->at, text, (size_t)bytes) == 0)
            return (int64_t)i;
    }
}

static pac_err more_slots(pac_vocab *v)
{
    if (2 * (v->count + 1) <= v->slots)
        return PAC_OK;
    pac_vocab wide = *v;
    wide.slots = v->slots > 0 ? 2 * v->slots : 1024;
    void *block;
    PAC_TRY(pac_mem_array(PAC_MEM_DATA, wide.slots, sizeof(int32_t), &block));
    wide.slot = memset(block, 0xff, (size_t)wide.slots * sizeof(int32_t));
    for (int64_t i = 0; i < v->slots; i++) {
        if (v->slot[i] >= 0) {
            const pac_token *t = &v->token[v->slot[i]];
            wide.slot[slot_of(&wide, v->text + t->at, t->bytes)] = v->slot[i];
        }
    }
    pac_mem_free(v->slot);
    *v = wide;
    return PAC_OK;
}

static pac_err room_for(pac_vocab *v, int64_t bytes, int64_t id)
{
    void *text = v->text, *token = v->token;
    pac_err err = pac_mem_grow(PAC_MEM_DATA, &text, &v->text_capacity, v->text_bytes + bytes, 1);
    v->text = text;
    PAC_TRY(err);
    err = pac_mem_grow(PAC_MEM_DATA, &token, &v->token_capacity, id + 1, sizeof(pac_token));
    v->token = token;
    PAC_TRY(err);
    PAC_TRY(more_slots(v));
    for (; v->size <= id; v->size++)
        v->token[v->size] = (pac_token){0, -1};
    return PAC_OK;
}

pac_err pac_vocab_put(pac_vocab *v, const char *text, int64_t bytes, int64_t id)
{
    PAC_CHECK(id >= 0 && id < PAC_VOCAB_MOST, PAC_EDATA, "id %lld of token \"%.40s\" is not from 0 to %d", (long long)id, text,
              PAC_VOCAB_MOST - 1);
    PAC_CHECK(id >= v->size || v->token[id].bytes < 0, PAC_EDATA, "id %lld of token \"%.40s\" is another token's too",
              (long long)id, text);
    PAC_TRY(room_for(v, bytes, id));
    if (bytes > 0)
        memcpy(v->text + v->text_bytes, text, (size_t)bytes);
    v->token[id] = (pac_token){v->text_bytes, bytes};
    v->text_bytes += bytes;
    v->slot[slot_of(v, text, bytes)] = (int32_t)id;
    v->count++;
    if (bytes > v->longest)
        v->longest = bytes;
    return PAC_OK;
}

int32_t pac_vocab_find(const pac_vocab *v, const char *text, int64_t bytes)
{
    return v->slots > 0 ? v->slot[slot_of(v, text, bytes)] : -1;
}

const char *pac_vocab_text(const pac_vocab *v, int64_t id, int64_t *bytes)
{
    if (id < 0 || id >= v->size || v->token[id].bytes < 0)
        return NULL;
    *bytes = v->token[id].bytes;
    return v->text + v->token[id].at;
}

void pac_vocab_free(pac_vocab *v)
{
    pac_mem_free(v->text);
    pac_mem_free(v->token);
    pac_mem_free(v->slot);
    *v = (pac_vocab){0};
}
