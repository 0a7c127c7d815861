/*
 * Whole files: read one with a limit on its size; replace one so that a reader sees the old or the new content, never a half.
 */
#ifndef PAC_FILE_H
#define PAC_FILE_H

#include "pac/err.h"

#include <stdint.h>

/**
 * The content of a file, with a zero byte behind it. The caller frees *text with pac_mem_free(). bytes may be NULL.
 * Errors: PAC_EIO (cannot open or read), PAC_EDATA (larger than `limit` bytes).
 */
pac_err pac_file_load(const char *path, size_t limit, char **text, size_t *bytes);

typedef struct pac_piece {
    const void *data;
    size_t bytes;
} pac_piece;

/**
 * Write the pieces one after the other to path.tmp, fsync, rename to path. On failure path is untouched and path.tmp is gone.
 * What is no regular file (a device, a pipe) is written to as it is.
 * Errors: PAC_EIO (what and why), PAC_ENOSPACE (bytes needed).
 */
pac_err pac_file_replace(const char *path, const pac_piece *pieces, int64_t n);

/** pac_file_replace() with one piece of text. */
pac_err pac_file_replace_text(const char *path, const char *text);

/** Make a directory and its parents (mkdir -p); one that exists is fine. Errors: PAC_EIO (names the one that cannot be made). */
pac_err pac_file_make_dirs(const char *dir);

/**
 * `bytes` of memory backed by an unlinked file in `dir`: for what may be larger than memory; the system writes it out as it needs.
 * Unmapped by pac_file_scratch_free(). Errors: PAC_EIO, PAC_ENOSPACE, PAC_ENOMEM.
 */
pac_err pac_file_scratch(const char *dir, size_t bytes, void **out);
void pac_file_scratch_free(void *p, size_t bytes);

#endif
