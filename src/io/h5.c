/*
 * Files, attributes and arrays of HDF5 (the serial library, which is not thread-safe: every call is made under one mutex).
 *
 * Files have the format of HDF5 1.8: its metadata carry checksums, so that damage is an error (the oldest format, the library's
 * default, has none, and the library reads freed memory on some damaged headers), while the newest format's "open for writing"
 * mark is absent, so that the file of a killed process opens again after its last flush. Chunks are not cached by the library:
 * rows are read and written once, in large pieces, straight between the caller's memory and the file.
 */
#include "h5_private.h"

#include "pac/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t library = PTHREAD_MUTEX_INITIALIZER;

/*
 * Every file is closed here; what is still open at exit belongs to a run that failed, and the library's own clean-up would try
 * to write it again (to a full disk: and crash).
 */
static void forbid_exit_handler(void)
{
    H5dont_atexit();
}

void h5_enter(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_mutex_lock(&library);
    pthread_once(&once, forbid_exit_handler);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* the library prints nothing */
    H5Eclear2(H5E_DEFAULT);
    errno = 0;
}

pac_err h5_leave(pac_err err)
{
    pthread_mutex_unlock(&library);
    return err;
}

/* ---- errors ---- */

typedef struct cause {
    char text[256];
    bool no_space;
} cause;

static herr_t note_cause(unsigned n, const H5E_error2_t *e, void *user)
{
    cause *c = user;
    if (n == 0 && e->desc != NULL)
        snprintf(c->text, sizeof c->text, "%s", e->desc);
    if (e->desc != NULL && (strstr(e->desc, "errno = 28,") != NULL || strstr(e->desc, "errno = 122,") != NULL))
        c->no_space = true; /* ENOSPC, EDQUOT: the file driver writes the number into its message */
    return 0;
}

/* The library's own words for what went wrong first. */
static pac_err failed(pac_err code, const char *path, const char *what)
{
    cause c = {.text = "unknown cause", .no_space = errno == ENOSPC || errno == EDQUOT};
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, note_cause, &c);
    if (c.no_space && code == PAC_EIO)
        return pac_fail(PAC_ENOSPACE, "%s: %s failed: no space left on the disk", path, what);
    return pac_fail(code, "%s: %s failed: %s", path, what, c.text);
}

/* ---- files ---- */

static pac_err wrap_file(const char *path, pac_h5 **out)
{
    void *p;
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, sizeof(pac_h5), &p));
    pac_h5 *f = p;
    f->id = H5I_INVALID_HID;
    pac_err err = pac_mem_strdup(path, &f->path);
    if (err != PAC_OK)
        pac_mem_free(f);
    else
        *out = f;
    return err;
}

static void drop_file(pac_h5 *f)
{
    pac_mem_free(f->path);
    pac_mem_free(f);
}

/* Lock the file where the file system can; closing it closes what is still open inside. */
static hid_t access_list(void)
{
    hid_t list = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fclose_degree(list, H5F_CLOSE_STRONG);
    H5Pset_file_locking(list, true, true);
    H5Pset_libver_bounds(list, H5F_LIBVER_V18, H5F_LIBVER_V18);
    return list;
}

static pac_err create_file(pac_h5 *f)
{
    hid_t create = H5Pcreate(H5P_FILE_CREATE), access = access_list();
    H5Pset_userblock(create, PAC_H5_MARK);
    f->id = H5Fcreate(f->path, H5F_ACC_EXCL, create, access);
    pac_err err = f->id >= 0 ? PAC_OK : failed(PAC_EIO, f->path, "creating the file");
    H5Pclose(create);
    H5Pclose(access);
    return err;
}

static pac_err write_mark(const char *path, const char *mark)
{
    size_t n = strlen(mark);
    PAC_CHECK(n < PAC_H5_MARK, PAC_EINVAL, "a mark of %zu bytes", n);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t written = fd >= 0 ? write(fd, mark, n) : -1;
    int cause_of_write = errno;
    if (fd >= 0)
        close(fd);
    PAC_CHECK(written == (ssize_t)n, cause_of_write == ENOSPC ? PAC_ENOSPACE : PAC_EIO, "%s: cannot be written: %s", path,
              strerror(cause_of_write));
    return PAC_OK;
}

pac_err pac_h5_create(const char *path, const char *mark, pac_h5 **out)
{
    pac_h5 *f;
    PAC_CHECK(access(path, F_OK) != 0, PAC_EIO, "%s: exists already; move it away or choose another directory", path);
    PAC_TRY(wrap_file(path, &f));
    h5_enter();
    pac_err err = h5_leave(create_file(f));
    if (err != PAC_OK) {
        drop_file(f);
        return err;
    }
    PAC_GO(write_mark(path, mark));
    *out = f;
    return PAC_OK;
out:
    (void)pac_h5_close(&f);
    unlink(path);
    return pac_fail(err, "%s: cannot be written", path);
}

static pac_err open_file(pac_h5 *f, bool write)
{
    hid_t list = access_list();
    f->id = H5Fopen(f->path, write ? H5F_ACC_RDWR : H5F_ACC_RDONLY, list);
    H5Pclose(list);
    return f->id >= 0 ? PAC_OK : failed(PAC_EDATA, f->path, "opening the file");
}

pac_err pac_h5_open(const char *path, bool write, pac_h5 **out)
{
    pac_h5 *f;
    PAC_CHECK(access(path, write ? W_OK : R_OK) == 0, PAC_EIO, "%s: %s", path, strerror(errno));
    PAC_TRY(wrap_file(path, &f));
    h5_enter();
    pac_err err = h5_leave(open_file(f, write));
    if (err != PAC_OK)
        drop_file(f);
    else
        *out = f;
    return err;
}

pac_err pac_h5_close(pac_h5 **fp)
{
    pac_h5 *f = *fp;
    if (f == NULL)
        return PAC_OK;
    *fp = NULL;
    h5_enter();
    pac_err err = h5_leave(H5Fclose(f->id) >= 0 ? PAC_OK : failed(PAC_EIO, f->path, "writing the last of the file"));
    drop_file(f);
    return err;
}

pac_err pac_h5_flush(pac_h5 *f)
{
    h5_enter();
    return h5_leave(H5Fflush(f->id, H5F_SCOPE_LOCAL) >= 0 ? PAC_OK : failed(PAC_EIO, f->path, "writing"));
}

bool pac_h5_marked(const char *path, const char *mark)
{
    char head[PAC_H5_MARK];
    size_t n = strlen(mark);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return false;
    ssize_t got = n <= sizeof head ? read(fd, head, n) : -1;
    close(fd);
    return got == (ssize_t)n && memcmp(head, mark, n) == 0;
}

/* ---- attributes ---- */

static pac_err set_attribute(pac_h5 *f, const char *name, uint64_t value)
{
    hid_t a = H5I_INVALID_HID;
    if (H5Aexists(f->id, name) > 0) {
        a = H5Aopen(f->id, name, H5P_DEFAULT);
    } else {
        hid_t scalar = H5Screate(H5S_SCALAR);
        a = H5Acreate2(f->id, name, H5T_STD_U64LE, scalar, H5P_DEFAULT, H5P_DEFAULT);
        H5Sclose(scalar);
    }
    herr_t done = a >= 0 ? H5Awrite(a, H5T_NATIVE_UINT64, &value) : -1;
    if (done < 0)
        return failed(PAC_EIO, f->path, "writing an attribute");
    H5Aclose(a);
    return PAC_OK;
}

pac_err pac_h5_set(pac_h5 *f, const char *name, uint64_t value)
{
    h5_enter();
    return h5_leave(set_attribute(f, name, value));
}

static bool is_number(hid_t a)
{
    hid_t space = H5Aget_space(a), type = H5Aget_type(a);
    bool good = H5Sget_simple_extent_type(space) == H5S_SCALAR && H5Tequal(type, H5T_STD_U64LE) > 0;
    H5Sclose(space);
    H5Tclose(type);
    return good;
}

static pac_err get_attribute(pac_h5 *f, const char *name, uint64_t *value)
{
    hid_t a = H5Aexists(f->id, name) > 0 ? H5Aopen(f->id, name, H5P_DEFAULT) : H5I_INVALID_HID;
    PAC_CHECK(a >= 0, PAC_EDATA, "%s: attribute \"%s\" is missing", f->path, name);
    uint64_t v = 0;
    bool good = is_number(a) && H5Aread(a, H5T_NATIVE_UINT64, &v) >= 0;
    H5Aclose(a);
    PAC_CHECK(good, PAC_EDATA, "%s: attribute \"%s\" is not a 64-bit number", f->path, name);
    *value = v;
    return PAC_OK;
}

pac_err pac_h5_get(pac_h5 *f, const char *name, uint64_t *value)
{
    h5_enter();
    return h5_leave(get_attribute(f, name, value));
}

/* ---- arrays ---- */

/* How a type lies in the file and in memory. Under the lock: these are calls of the library. */
static pac_err types_of(pac_dtype type, hid_t *stored, hid_t *memory)
{
    switch (type) {
    case PAC_U8:
        *stored = H5T_STD_U8LE, *memory = H5T_NATIVE_UINT8;
        return PAC_OK;
    case PAC_I32:
        *stored = H5T_STD_I32LE, *memory = H5T_NATIVE_INT32;
        return PAC_OK;
    case PAC_I64:
        *stored = H5T_STD_I64LE, *memory = H5T_NATIVE_INT64;
        return PAC_OK;
    case PAC_F32:
        *stored = H5T_IEEE_F32LE, *memory = H5T_NATIVE_FLOAT;
        return PAC_OK;
    default:
        return pac_fail(PAC_EINVAL, "arrays of %s are not supported", pac_dtype_name(type));
    }
}

/* Chunks larger than this cache bypass it. */
static hid_t array_access(void)
{
    hid_t list = H5Pcreate(H5P_DATASET_ACCESS);
    H5Pset_chunk_cache(list, 0, 0, 1);
    return list;
}

static pac_err create_array(pac_h5_array *a, pac_dtype type, hsize_t chunk)
{
    hid_t stored;
    hsize_t none = 0, unlimited = H5S_UNLIMITED;
    a->element = (int64_t)pac_dtype_size(type);
    PAC_TRY(types_of(type, &stored, &a->memory_type));
    hid_t space = H5Screate_simple(1, &none, &unlimited), create = H5Pcreate(H5P_DATASET_CREATE), access = array_access();
    H5Pset_chunk(create, 1, &chunk);
    H5Pset_fill_time(create, H5D_FILL_TIME_NEVER);
    a->id = H5Dcreate2(a->file->id, a->name, stored, space, H5P_DEFAULT, create, access);
    pac_err err = a->id >= 0 ? PAC_OK : failed(PAC_EIO, a->file->path, "creating an array");
    H5Sclose(space);
    H5Pclose(create);
    H5Pclose(access);
    return err;
}

/* A dataset of this very file, plain, of one dimension and the given type. */
static bool is_plain(hid_t array, hid_t stored, int64_t *length)
{
    hid_t space = H5Dget_space(array), type = H5Dget_type(array), create = H5Dget_create_plist(array);
    hsize_t n = 0;
    bool good = H5Sget_simple_extent_ndims(space) == 1 && H5Sget_simple_extent_dims(space, &n, NULL) == 1 &&
                H5Tequal(type, stored) > 0 && H5Pget_nfilters(create) == 0 && H5Pget_external_count(create) == 0 &&
                H5Pget_layout(create) != H5D_VIRTUAL;
    H5Sclose(space);
    H5Tclose(type);
    H5Pclose(create);
    *length = n <= INT64_MAX ? (int64_t)n : INT64_MAX;
    return good;
}

static pac_err find_array(pac_h5_array *a, pac_dtype type)
{
    const char *path = a->file->path;
    hid_t stored, file = a->file->id;
    H5L_info_t link;
    a->element = (int64_t)pac_dtype_size(type);
    PAC_TRY(types_of(type, &stored, &a->memory_type));
    bool here = H5Lexists(file, a->name, H5P_DEFAULT) > 0 && H5Lget_info(file, a->name, &link, H5P_DEFAULT) >= 0 &&
                link.type == H5L_TYPE_HARD;
    hid_t access = array_access();
    a->id = here ? H5Dopen2(file, a->name, access) : H5I_INVALID_HID;
    H5Pclose(access);
    PAC_CHECK(a->id >= 0, PAC_EDATA, "%s: array \"%s\" is missing or damaged", path, a->name);
    PAC_CHECK(is_plain(a->id, stored, &a->length), PAC_EDATA, "%s: array \"%s\" is not a plain list of %s", path, a->name,
              pac_dtype_name(type));
    struct stat s;
    PAC_CHECK(stat(path, &s) == 0 && a->length <= s.st_size / (int64_t)pac_dtype_size(type), PAC_EDATA,
              "%s: array \"%s\" claims %lld elements, more than the file holds", path, a->name, (long long)a->length);
    return PAC_OK;
}

static pac_err wrap_array(pac_h5 *f, const char *name, pac_h5_array **out)
{
    void *p;
    PAC_CHECK(strlen(name) < sizeof(*out)->name, PAC_EINVAL, "the array name \"%s\" is too long", name);
    PAC_TRY(pac_mem_alloc(PAC_MEM_OTHER, sizeof(pac_h5_array), &p));
    pac_h5_array *a = p;
    a->file = f;
    a->id = H5I_INVALID_HID;
    snprintf(a->name, sizeof a->name, "%s", name);
    *out = a;
    return PAC_OK;
}

pac_err pac_h5_array_new(pac_h5 *f, const char *name, pac_dtype type, int64_t chunk, pac_h5_array **out)
{
    pac_h5_array *a;
    PAC_CHECK(chunk > 0, PAC_EINVAL, "chunks of %lld elements", (long long)chunk);
    PAC_TRY(wrap_array(f, name, &a));
    h5_enter();
    pac_err err = h5_leave(create_array(a, type, (hsize_t)chunk));
    if (err != PAC_OK)
        pac_h5_array_close(&a);
    else
        *out = a;
    return err;
}

pac_err pac_h5_array_open(pac_h5 *f, const char *name, pac_dtype type, pac_h5_array **out)
{
    pac_h5_array *a;
    PAC_TRY(wrap_array(f, name, &a));
    h5_enter();
    pac_err err = h5_leave(find_array(a, type));
    if (err != PAC_OK)
        pac_h5_array_close(&a);
    else
        *out = a;
    return err;
}

void pac_h5_array_close(pac_h5_array **a)
{
    if (*a == NULL)
        return;
    h5_enter();
    if ((*a)->id >= 0)
        H5Dclose((*a)->id);
    (void)h5_leave(PAC_OK);
    pac_mem_free(*a);
    *a = NULL;
}

int64_t pac_h5_array_length(const pac_h5_array *a)
{
    return a->length;
}

pac_err pac_h5_array_extend(pac_h5_array *a, int64_t length)
{
    PAC_CHECK(length >= a->length, PAC_EINVAL, "array \"%s\" cannot shrink from %lld to %lld", a->name, (long long)a->length,
              (long long)length);
    hsize_t n = (hsize_t)length;
    h5_enter();
    pac_err err = h5_leave(H5Dset_extent(a->id, &n) >= 0 ? PAC_OK : failed(PAC_EIO, a->file->path, "growing an array"));
    if (err == PAC_OK)
        a->length = length;
    return err;
}

static bool within(const pac_h5_array *a, int64_t first, int64_t n)
{
    return first >= 0 && n >= 0 && first <= a->length && n <= a->length - first;
}

/* Move elements [first, first + n) in the direction of `out` (else from `in`). Under the lock. */
static herr_t transfer(pac_h5_array *a, int64_t first, int64_t n, const void *in, void *out)
{
    hsize_t start = (hsize_t)first, count = (hsize_t)n;
    hid_t file = H5Dget_space(a->id), memory = H5Screate_simple(1, &count, NULL);
    herr_t done = H5Sselect_hyperslab(file, H5S_SELECT_SET, &start, NULL, &count, NULL);
    if (done >= 0 && out != NULL)
        done = H5Dread(a->id, a->memory_type, memory, file, H5P_DEFAULT, out);
    else if (done >= 0)
        done = H5Dwrite(a->id, a->memory_type, memory, file, H5P_DEFAULT, in);
    H5Sclose(memory);
    H5Sclose(file);
    return done;
}

pac_err pac_h5_array_write(pac_h5_array *a, int64_t first, const void *data, int64_t n)
{
    PAC_CHECK(within(a, first, n), PAC_EINVAL, "elements %lld to %lld of array \"%s\" of %lld", (long long)first,
              (long long)(first + n), a->name, (long long)a->length);
    if (n == 0)
        return PAC_OK;
    h5_enter();
    return h5_leave(transfer(a, first, n, data, NULL) >= 0 ? PAC_OK : failed(PAC_EIO, a->file->path, "writing"));
}

pac_err pac_h5_array_append(pac_h5_array *a, const void *data, int64_t n)
{
    int64_t first = a->length;
    PAC_CHECK(n >= 0 && n <= INT64_MAX - first, PAC_EINVAL, "%lld elements to append", (long long)n);
    PAC_TRY(pac_h5_array_extend(a, first + n));
    return pac_h5_array_write(a, first, data, n);
}

pac_err pac_h5_array_read(pac_h5_array *a, int64_t first, int64_t n, void *out)
{
    PAC_CHECK(within(a, first, n), PAC_EDATA, "%s: elements %lld and %lld more lie beyond the end of array \"%s\" (%lld)",
              a->file->path, (long long)first, (long long)n, a->name, (long long)a->length);
    if (n == 0)
        return PAC_OK;
    h5_enter();
    return h5_leave(transfer(a, first, n, NULL, out) >= 0 ? PAC_OK : failed(PAC_EDATA, a->file->path, "reading"));
}

void pac_h5_version(char *buf, size_t bytes)
{
    unsigned major = 0, minor = 0, release = 0;
    H5get_libversion(&major, &minor, &release);
    snprintf(buf, bytes, "%u.%u.%u", major, minor, release);
}
