/*
 * A look into a SentencePiece model file before the library loads it. The library checks the protobuf but trusts the trie of
 * the normaliser (ModelProto.normalizer_spec and denormalizer_spec, field precompiled_charsmap): it follows the trie's offsets
 * and the positions in its leaves without a bound. A damaged or hostile file would make it read anywhere, so every offset is
 * checked here once.
 *
 * precompiled_charsmap = u32 bytes of the trie | trie: u32 units (Darts-clone double array) | NUL-terminated replacement
 * strings.
 */
#include "spm_shim.h"

#include <stdbool.h>
#include <string.h>

typedef struct span {
    const unsigned char *p;
    size_t n;
} span;

typedef struct field {
    uint32_t number, type;
    span body; /* of a length-delimited field */
} field;

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static bool take_varint(span *s, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && s->n > 0; shift += 7) {
        unsigned char byte = *s->p++;
        s->n--;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *out = v;
            return true;
        }
    }
    return false;
}

static bool skip(span *s, uint64_t n)
{
    if (n > s->n)
        return false;
    s->p += n;
    s->n -= n;
    return true;
}

/* The next field of a message; groups (which no SentencePiece model has) are refused, as they could hide what is looked for. */
static bool take_field(span *s, field *f)
{
    uint64_t tag, n;
    if (!take_varint(s, &tag) || tag > UINT32_MAX)
        return false;
    *f = (field){.number = (uint32_t)tag >> 3, .type = (uint32_t)tag & 7};
    switch (f->type) {
    case VARINT:
        return take_varint(s, &n);
    case FIXED64:
        return skip(s, 8);
    case FIXED32:
        return skip(s, 4);
    case BYTES:
        if (!take_varint(s, &n))
            return false;
        f->body = (span){s->p, (size_t)n};
        return skip(s, n);
    default:
        return false;
    }
}

static uint32_t unit_at(const unsigned char *trie, size_t i)
{
    uint32_t u;
    memcpy(&u, trie + 4 * i, 4); /* little endian, as the library reads it */
    return u;
}

/* Darts-clone: a unit without the top bit leads to the block of 256 units at i ^ offset; bit 8 says that the first is a leaf.
 */
static const char *check_trie(const unsigned char *trie, size_t units, size_t strings)
{
    for (size_t i = 0; i < units; i++) {
        uint32_t u = unit_at(trie, i);
        if (u >> 31 && i > 0)
            continue;
        size_t next = i ^ ((size_t)(u >> 10) << ((u & (1u << 9)) >> 6));
        if ((next | 0xff) >= units)
            return "the trie of its normalisation table points outside itself";
        if ((u >> 8 & 1) && (unit_at(trie, next) & 0x7fffffff) >= strings)
            return "its normalisation table points outside its strings";
    }
    return NULL;
}

static const char *check_charsmap(span map)
{
    if (map.n == 0)
        return NULL; /* no normalisation */
    uint32_t trie_bytes;
    if (map.n < sizeof trie_bytes)
        return "its normalisation table is cut off";
    memcpy(&trie_bytes, map.p, sizeof trie_bytes);
    size_t rest = map.n - sizeof trie_bytes;
    if (trie_bytes >= rest || trie_bytes == 0 || trie_bytes % 4 != 0)
        return "its normalisation table is cut off";
    if (map.p[map.n - 1] != '\0')
        return "the strings of its normalisation table have no end";
    return check_trie(map.p + sizeof trie_bytes, trie_bytes / 4, rest - trie_bytes);
}

static const char *check_normalizer(span spec)
{
    enum { PRECOMPILED_CHARSMAP = 2 };
    field f;
    while (spec.n > 0) {
        if (!take_field(&spec, &f))
            return "its normaliser is damaged";
        const char *wrong = f.number == PRECOMPILED_CHARSMAP && f.type == BYTES ? check_charsmap(f.body) : NULL;
        if (wrong != NULL)
            return wrong;
    }
    return NULL;
}

const char *pac_spm_check(const void *model, size_t bytes)
{
    enum { NORMALIZER_SPEC = 3, DENORMALIZER_SPEC = 5 };
    span s = {model, bytes};
    field f;
    while (s.n > 0) {
        if (!take_field(&s, &f))
            return "it is cut off or no SentencePiece model";
        bool normalizer = (f.number == NORMALIZER_SPEC || f.number == DENORMALIZER_SPEC) && f.type == BYTES;
        const char *wrong = normalizer ? check_normalizer(f.body) : NULL;
        if (wrong != NULL)
            return wrong;
    }
    return NULL;
}
