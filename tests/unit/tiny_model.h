/* Tiny models of every family in a directory of their own, for the unit tests that include this. */
#ifndef PAC_TESTS_TINY_MODEL_H
#define PAC_TESTS_TINY_MODEL_H

#include "pac/model.h"
#include "pac/safetensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define OK(expr)                                                                                                               \
    do {                                                                                                                       \
        if ((expr) != PAC_OK)                                                                                                  \
            fail_msg("%s: %s", #expr, pac_err_message());                                                                      \
    } while (0)

#define T5                                                                                                                     \
    "{\"model_type\": \"t5\", \"vocab_size\": 13, \"d_model\": 8, \"d_kv\": 3, \"num_heads\": 2, \"d_ff\": 12,"                \
    " \"num_layers\": 2, \"num_decoder_layers\": 2"
#define BART                                                                                                                   \
    "{\"model_type\": \"bart\", \"vocab_size\": 13, \"d_model\": 8, \"encoder_layers\": 2, \"decoder_layers\": 1,"             \
    " \"encoder_attention_heads\": 2, \"decoder_attention_heads\": 4, \"encoder_ffn_dim\": 12, \"decoder_ffn_dim\": 10,"       \
    " \"max_position_embeddings\": 6"
#define BERT                                                                                                                   \
    "{\"model_type\": \"bert\", \"vocab_size\": 13, \"hidden_size\": 8, \"num_hidden_layers\": 2, \"num_attention_heads\": 2," \
    " \"intermediate_size\": 12, \"max_position_embeddings\": 6"
#define DISTILBERT                                                                                                             \
    "{\"model_type\": \"distilbert\", \"vocab_size\": 13, \"dim\": 8, \"n_layers\": 2, \"n_heads\": 2, \"hidden_dim\": 12,"    \
    " \"max_position_embeddings\": 6"

enum { PATH = 256, V = 13, D = 8 };

typedef struct place {
    char dir[PATH], config[PATH], weights[PATH], source[PATH];
} place;

static inline int set_up(void **state)
{
    place *p = calloc(1, sizeof *p);
    if (p == NULL)
        return -1;
    strcpy(p->dir, "/tmp/pac-families-XXXXXX");
    if (mkdtemp(p->dir) == NULL)
        return -1;
    snprintf(p->config, PATH, "%.200s/config.json", p->dir);
    snprintf(p->weights, PATH, "%.200s/model.safetensors", p->dir);
    snprintf(p->source, PATH, "%.200s/source.json", p->dir);
    *state = p;
    return 0;
}

static inline int tear_down(void **state)
{
    place *p = *state;
    unlink(p->config);
    unlink(p->weights);
    unlink(p->source);
    rmdir(p->dir);
    free(p);
    return 0;
}

static inline void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

static inline void make(const place *p, const char *config, pac_model_desc *d)
{
    unlink(p->weights);
    unlink(p->config);
    put(p->source, config);
    OK(pac_model_init(p->source, p->dir, 7));
    OK(pac_model_describe(p->dir, d));
}

static inline const pac_backend *backend(const char *name)
{
    const pac_backend *be;
    OK(pac_backend_find(name, &be));
    return be;
}

/* Bytes that lie in pages of this process, of what is mapped under that name. */
static inline int64_t resident_bytes(const char *mapping)
{
    char line[512];
    long kib;
    int64_t sum = 0;
    bool ours = false;
    FILE *f = fopen("/proc/self/smaps", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL) {
        if (strchr(line, '-') != NULL && strstr(line, "kB") == NULL)
            ours = strstr(line, mapping) != NULL;
        else if (ours && sscanf(line, "Rss: %ld kB", &kib) == 1)
            sum += kib;
    }
    fclose(f);
    return sum * 1024;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
