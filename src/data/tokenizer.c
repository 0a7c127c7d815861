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

/* In order of preference where a directory has the files of several. */
static const pac_tokenizer_kind *const kinds[] = {&pac_tokenizer_spm, &pac_tokenizer_bpe, &pac_tokenizer_wordpiece};

struct pac_tokenizer {
    const pac_tokenizer_kind *kind;
    void *state;
    uint64_t identity;
};

static pac_err exists(const char *dir, const char *name, bool *yes)
{
    pac_text path = {0};
    PAC_TRY(pac_text_print(&path, "%s/%s", dir, name));
    *yes = access(path.s, F_OK) == 0;
    pac_text_done(&path);
    return PAC_OK;
}

static pac_err find_kind(const char *dir, const pac_tokenizer_kind **out)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        bool all = true;
        for (int f = 0; f < kinds[i]->needed && all; f++)
            PAC_TRY(exists(dir, kinds[i]->files[f], &all));
        if (!all)
            continue;
        *out = kinds[i];
        return PAC_OK;
    }
    return pac_fail(
        PAC_EIO,
        "%s: no tokenizer; spiece.model, vocab.json and merges.txt, or vocab.txt are expected (tokenizer.json is not "
        "read)",
        dir);
}

typedef struct loaded {
    pac_text path;
    char *data;
} loaded;

static pac_err load(const char *dir, const char *name, bool needed, loaded *l, pac_tokenizer_file *out)
{
    bool found = true;
    size_t bytes = 0;
    PAC_TRY(pac_text_print(&l->path, "%s/%s", dir, name));
    if (!needed)
        PAC_TRY(exists(dir, name, &found));
    if (found)
        PAC_TRY(pac_file_load(l->path.s, MAX_FILE, &l->data, &bytes));
    *out = (pac_tokenizer_file){l->path.s, l->data, (int64_t)bytes};
    return PAC_OK;
}

static pac_err open_files(const char *dir, pac_tokenizer *t)
{
    pac_err err = PAC_OK;
    loaded held[PAC_TOKENIZER_FILES] = {0};
    pac_tokenizer_file file[PAC_TOKENIZER_FILES] = {0};
    for (int i = 0; i < PAC_TOKENIZER_FILES && t->kind->files[i] != NULL; i++) {
        PAC_GO(load(dir, t->kind->files[i], i < t->kind->needed, &held[i], &file[i]));
        if (file[i].data != NULL)
            t->identity = XXH3_64bits_withSeed(file[i].data, (size_t)file[i].bytes, t->identity);
    }
    PAC_GO(t->kind->open(file, &t->state));
out:
    for (int i = 0; i < PAC_TOKENIZER_FILES; i++) {
        pac_mem_free(held[i].data);
        pac_text_done(&held[i].path);
    }
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

pac_form pac_tokenizer_form(const pac_tokenizer *t)
{
    return t->kind->form(t->state);
}
