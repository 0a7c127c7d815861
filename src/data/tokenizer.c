/*
 * Tokenizers: the kind follows from the files of the model directory, the rest is a call through the table.
 */
#include "tokenizer_kind.h"

#include "lines.h"
#include "pac/file.h"

#include <string.h>
#include <unistd.h>
#include <xxhash.h>

enum { MAX_FILE = 256 << 20 }; /* bytes of a tokenizer's file at most */

static const pac_tokenizer_kind byte_level_bpe = {.name = "byte-level BPE", .files = {"vocab.json", "merges.txt"}};
static const pac_tokenizer_kind wordpiece = {.name = "WordPiece", .files = {"vocab.txt"}};

/* In order of preference where a directory has the files of several. */
static const pac_tokenizer_kind *const kinds[] = {&pac_tokenizer_spm, &byte_level_bpe, &wordpiece};

struct pac_tokenizer {
    const pac_tokenizer_kind *kind;
    void *state;
    uint64_t identity;
};

static pac_err has_files(const char *dir, const pac_tokenizer_kind *kind, bool *all)
{
    pac_text path = {0};
    *all = true;
    for (int i = 0; i < PAC_TOKENIZER_FILES && kind->files[i] != NULL && *all; i++) {
        PAC_TRY(pac_text_print(&path, "%s/%s", dir, kind->files[i]));
        *all = access(path.s, F_OK) == 0;
        pac_text_done(&path);
    }
    return PAC_OK;
}

static pac_err find_kind(const char *dir, const pac_tokenizer_kind **out)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        bool found;
        PAC_TRY(has_files(dir, kinds[i], &found));
        if (!found)
            continue;
        PAC_CHECK(kinds[i]->open != NULL, PAC_ENOTBUILT,
                  "%s/%s: %s tokenizers are not built yet; use a model with spiece.model, or the task `tokens`", dir,
                  kinds[i]->files[0], kinds[i]->name);
        *out = kinds[i];
        return PAC_OK;
    }
    return pac_fail(PAC_EIO, "%s: no tokenizer; a file spiece.model is expected (tokenizer.json is not read)", dir);
}

static pac_err open_files(const char *dir, pac_tokenizer *t)
{
    pac_err err = PAC_OK;
    pac_text path = {0};
    char *data[PAC_TOKENIZER_FILES] = {NULL};
    int64_t bytes[PAC_TOKENIZER_FILES] = {0};
    for (int i = 0; i < PAC_TOKENIZER_FILES && t->kind->files[i] != NULL; i++) {
        PAC_GO(pac_text_print(&path, "%s/%s", dir, t->kind->files[i]));
        size_t size;
        PAC_GO(pac_file_load(path.s, MAX_FILE, &data[i], &size));
        bytes[i] = (int64_t)size;
        t->identity = XXH3_64bits_withSeed(data[i], size, t->identity);
    }
    PAC_GO(t->kind->open(path.s, data, bytes, &t->state));
out:
    for (int i = 0; i < PAC_TOKENIZER_FILES; i++)
        pac_mem_free(data[i]);
    pac_text_done(&path);
    return err;
}

pac_err pac_tokenizer_open(const char *model_dir, pac_tokenizer **out)
{
    const pac_tokenizer_kind *kind = NULL;
    PAC_TRY(find_kind(model_dir, &kind));
    void *block;
    PAC_TRY(pac_mem_alloc(PAC_MEM_DATA, sizeof(pac_tokenizer), &block));
    pac_tokenizer *t = block;
    t->kind = kind;
    pac_err err = open_files(model_dir, t);
    if (err != PAC_OK) {
        pac_mem_free(t);
        return err;
    }
    *out = t;
    return PAC_OK;
}

void pac_tokenizer_close(pac_tokenizer **t)
{
    if (t == NULL || *t == NULL)
        return;
    (*t)->kind->close((*t)->state);
    pac_mem_free(*t);
    *t = NULL;
}

pac_err pac_tokenizer_encode(const pac_tokenizer *t, const char *text, size_t bytes, int32_t **ids, int64_t *n,
                             int64_t *capacity)
{
    return t->kind->encode(t->state, text, bytes, ids, n, capacity);
}

pac_err pac_tokenizer_decode(const pac_tokenizer *t, const int32_t *ids, int64_t n, char **out)
{
    return t->kind->decode(t->state, ids, n, out);
}

int64_t pac_tokenizer_size(const pac_tokenizer *t)
{
    return t->kind->size(t->state);
}

uint64_t pac_tokenizer_identity(const pac_tokenizer *t)
{
    return t->identity;
}
