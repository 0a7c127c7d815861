/*
 * safetensors, writing: header and tensors in one atomic replacement.
 *
 * Tensors are written by falling element size, as the reference implementation does, behind a header padded to 8 bytes: then
 * every one of them is aligned to its element in the mapping of a reader.
 */
#include "pac/file.h"
#include "safetensors_internal.h"

#include <inttypes.h>
#include <string.h>

enum { LARGEST_ELEMENT = 8 };

static pac_err tensor_bytes(const pac_st_entry *e, uint64_t *out)
{
    const pac_tensor *t = &e->tensor;
    PAC_CHECK(pac_st_type_name(t->dtype) != NULL && t->ndim >= 0 && t->ndim <= PAC_MAX_DIMS, PAC_EINVAL,
              "tensor '%.200s' has no type or more than %d dimensions", e->name, PAC_MAX_DIMS);
    uint64_t total = pac_dtype_size(t->dtype);
    for (int i = 0; i < t->ndim; i++)
        PAC_CHECK(t->shape[i] >= 0 && !__builtin_mul_overflow(total, (uint64_t)t->shape[i], &total) && total <= INT64_MAX,
                  PAC_EINVAL, "tensor '%.200s' has an impossible shape", e->name);
    *out = total;
    return PAC_OK;
}

static pac_err add_entry(json_t *header, const pac_st_entry *e, uint64_t *at)
{
    uint64_t bytes = 0;
    PAC_TRY(tensor_bytes(e, &bytes));
    PAC_CHECK(json_object_get(header, e->name) == NULL, PAC_EINVAL, "tensor '%.200s' is given twice", e->name);
    json_t *shape = json_array();
    for (int i = 0; i < e->tensor.ndim; i++)
        json_array_append_new(shape, json_integer(e->tensor.shape[i]));
    json_t *value = json_pack("{s:s, s:o, s:[I, I]}", "dtype", pac_st_type_name(e->tensor.dtype), "shape", shape,
                              "data_offsets", (json_int_t)*at, (json_int_t)(*at + bytes));
    PAC_CHECK(json_object_set_new(header, e->name, value) == 0, PAC_EINVAL, "tensor name '%.200s' is not UTF-8", e->name);
    *at += bytes;
    return PAC_OK;
}

static pac_err add_metadata(json_t *header, const char *const *metadata)
{
    if (metadata == NULL || metadata[0] == NULL)
        return PAC_OK;
    json_t *map = json_object();
    PAC_CHECK(json_object_set_new(header, "__metadata__", map) == 0, PAC_ENOMEM, "no memory for a safetensors header");
    for (int64_t i = 0; metadata[i] != NULL; i += 2)
        PAC_CHECK(json_object_set_new(map, metadata[i], json_string(metadata[i + 1])) == 0, PAC_EINVAL,
                  "metadata '%.80s' is not UTF-8", metadata[i]);
    return PAC_OK;
}

/* The header's JSON, and the pieces of the file behind the first two (size and JSON). */
static pac_err lay_out(const pac_st_entry *entries, int64_t n, json_t *header, pac_piece *pieces)
{
    uint64_t at = 0;
    int64_t used = 2;
    for (size_t size = LARGEST_ELEMENT; size > 0; size /= 2)
        for (int64_t i = 0; i < n; i++) {
            if (pac_dtype_size(entries[i].tensor.dtype) != size)
                continue;
            uint64_t begin = at;
            PAC_TRY(add_entry(header, &entries[i], &at));
            pieces[used++] = (pac_piece){entries[i].tensor.data, (size_t)(at - begin)};
        }
    PAC_CHECK(used == n + 2, PAC_EINVAL, "a tensor of unknown type");
    return PAC_OK;
}

static pac_err header_text(const json_t *header, char **out, size_t *bytes)
{
    size_t n = json_dumpb(header, NULL, 0, JSON_COMPACT);
    PAC_CHECK(n > 0, PAC_ENOMEM, "no memory for a safetensors header");
    size_t padded = (n + 7) / 8 * 8;
    void *text;
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, padded, &text));
    json_dumpb(header, text, n, JSON_COMPACT);
    memset((char *)text + n, ' ', padded - n);
    *out = text;
    *bytes = padded;
    return PAC_OK;
}

pac_err pac_st_write(const char *path, const pac_st_entry *entries, int64_t n, const char *const *metadata)
{
    char *text = NULL;
    size_t bytes = 0;
    void *pieces = NULL;
    json_t *header = json_object();
    pac_err err;
    PAC_GO(pac_mem_array(PAC_MEM_OTHER, n + 2, sizeof(pac_piece), &pieces));
    PAC_GO(add_metadata(header, metadata));
    PAC_GO(lay_out(entries, n, header, pieces));
    PAC_GO(header_text(header, &text, &bytes));
    unsigned char size[8];
    for (int i = 0; i < 8; i++)
        size[i] = (unsigned char)((uint64_t)bytes >> (8 * i));
    ((pac_piece *)pieces)[0] = (pac_piece){size, sizeof size};
    ((pac_piece *)pieces)[1] = (pac_piece){text, bytes};
    err = pac_file_replace(path, pieces, n + 2);
out:
    json_decref(header);
    pac_mem_free(pieces);
    pac_mem_free(text);
    return err;
}
