/*
 * A SentencePiece model small enough to read: written as protobuf bytes from tests/unit/cases/tiny_pieces.txt, so that tests
 * need no binary file. Unigram, no character normalisation, T5's special pieces (pad 0, end of sequence 1, unknown 2).
 */
#ifndef TINY_SPM_H
#define TINY_SPM_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TINY_PIECES = 31, TINY_PAD = 0, TINY_EOS = 1, TINY_UNKNOWN = 2 };

typedef struct bytes {
    unsigned char b[8192];
    size_t n;
} bytes;

static inline void put_varint(bytes *o, unsigned long v)
{
    for (; v >= 0x80; v >>= 7)
        o->b[o->n++] = (unsigned char)(v | 0x80);
    o->b[o->n++] = (unsigned char)v;
}

static inline void put_bytes(bytes *o, unsigned field, const void *p, size_t n)
{
    put_varint(o, field << 3 | 2);
    put_varint(o, n);
    memcpy(o->b + o->n, p, n);
    o->n += n;
}

/* A file of the source tree. */
static inline const char *case_file(const char *name)
{
    static char path[4096];
    const char *root = getenv("PAC_SOURCE_ROOT");
    snprintf(path, sizeof path, "%s/tests/unit/cases/%s", root != NULL ? root : ".", name);
    return path;
}

static inline void put_pieces(bytes *model)
{
    char line[256], piece[64];
    float score;
    unsigned type;
    FILE *f = fopen(case_file("tiny_pieces.txt"), "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (sscanf(line, "%63s %f %u", piece, &score, &type) != 3 || line[0] == '#')
            continue;
        bytes p = {.n = 0};
        put_bytes(&p, 1, piece, strlen(piece));
        put_varint(&p, 2 << 3 | 5);
        memcpy(p.b + p.n, &score, 4);
        p.n += 4;
        put_varint(&p, 3 << 3);
        put_varint(&p, type);
        put_bytes(model, 1, p.b, p.n);
    }
    if (f != NULL)
        fclose(f);
}

/* The model's bytes; `charsmap` (n may be 0) is the normalisation table. */
static inline void tiny_model(bytes *model, const void *charsmap, size_t n)
{
    static const unsigned char unigram[] = {3 << 3, 1}; /* model_type = UNIGRAM */
    model->n = 0;
    put_pieces(model);
    put_bytes(model, 2, unigram, sizeof unigram);
    bytes normalizer = {.n = 0};
    put_bytes(&normalizer, 1, "identity", 8);
    put_bytes(&normalizer, 2, charsmap, n);
    put_bytes(model, 3, normalizer.b, normalizer.n);
}

static inline void write_file(const char *dir, const char *name, const void *p, size_t n)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(p, 1, n, f) != n || fclose(f) != 0)
        abort();
}

/* A fresh directory with the tiny model; remove it with remove_dir(). */
static inline char *tiny_dir(void)
{
    static char dir[64];
    bytes model;
    strcpy(dir, "/tmp/pac-test-XXXXXX");
    if (mkdtemp(dir) == NULL)
        abort();
    tiny_model(&model, "", 0);
    write_file(dir, "spiece.model", model.b, model.n);
    return dir;
}

static inline void remove_dir(const char *dir)
{
    static const char *const names[] = {"spiece.model", "vocab.txt", "vocab.json", "merges.txt", "tokenizer_config.json", "data"};
    char path[4096];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

#endif
