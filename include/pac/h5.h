/*
 * The little of HDF5 that the project uses: a file with integer attributes and growing one-dimensional arrays of numbers.
 *
 * Thread-safe: one mutex around the library, which is not. Files are hostile: an array must be plain (one dimension, the
 * expected type, no filters, no links elsewhere) and cannot be longer than its file. A file may start with a mark of the owner,
 * readable without HDF5 even when the rest is damaged.
 */
#ifndef PAC_H5_H
#define PAC_H5_H

#include "pac/tensor.h"

#include <stdbool.h>

enum { PAC_H5_MARK = 512 }; /* bytes in front of the HDF5 part, for the mark */

typedef struct pac_h5 pac_h5;             /* an open file */
typedef struct pac_h5_array pac_h5_array; /* one of its arrays */

/**
 * A new file with a mark (below PAC_H5_MARK characters). The caller owns *out. Errors: PAC_EIO (exists already, cannot be
 * written), PAC_ENOSPACE.
 */
pac_err pac_h5_create(const char *path, const char *mark, pac_h5 **out);
/** Open a file. Errors: PAC_EIO (is not there, in use), PAC_EDATA (no HDF5 file, truncated). */
pac_err pac_h5_open(const char *path, bool write, pac_h5 **out);
/** Write out everything and close; *f becomes NULL in any case. Close its arrays first. Errors: PAC_EIO, PAC_ENOSPACE. */
pac_err pac_h5_close(pac_h5 **f);
/** Hand all changes to the operating system: what is written so far survives the end of this process. */
pac_err pac_h5_flush(pac_h5 *f);
/** Does the file at `path` start with this mark? false also when there is no such file. */
bool pac_h5_marked(const char *path, const char *mark);

/** Create or change an attribute of the file. */
pac_err pac_h5_set(pac_h5 *f, const char *name, uint64_t value);
/** Errors: PAC_EDATA (there is none of this name, or it is no such number). */
pac_err pac_h5_get(pac_h5 *f, const char *name, uint64_t *value);

/** A new, empty, growing array of u8, i32, i64 or f32, stored in pieces of `chunk` elements. */
pac_err pac_h5_array_new(pac_h5 *f, const char *name, pac_dtype type, int64_t chunk, pac_h5_array **out);
/** Errors: PAC_EDATA (none of this name, other type or shape). */
pac_err pac_h5_array_open(pac_h5 *f, const char *name, pac_dtype type, pac_h5_array **out);
void pac_h5_array_close(pac_h5_array **a);
/** Elements. */
int64_t pac_h5_array_length(const pac_h5_array *a);
/** Make the array longer; elements that are never written have no defined value. */
pac_err pac_h5_array_extend(pac_h5_array *a, int64_t length);
/** Write elements [first, first + n). Errors: PAC_EINVAL (beyond the end), PAC_EIO, PAC_ENOSPACE. */
pac_err pac_h5_array_write(pac_h5_array *a, int64_t first, const void *data, int64_t n);
/** Extend by n elements and write them. */
pac_err pac_h5_array_append(pac_h5_array *a, const void *data, int64_t n);
/** Read elements [first, first + n). Errors: PAC_EDATA (beyond the end, unreadable). */
pac_err pac_h5_array_read(pac_h5_array *a, int64_t first, int64_t n, void *out);

/**
 * A hint: elements [first, first + n) will be read soon, and what lies behind them will not, so the system fetches those bytes now and
 * no others. Places are interpolated between a few that are looked up once, so a few bytes may be missed. Costs nothing if it fails.
 */
void pac_h5_array_will_read(pac_h5_array *a, int64_t first, int64_t n);

/** Version of the library, for --version and info. */
void pac_h5_version(char *buf, size_t bytes);

#endif
