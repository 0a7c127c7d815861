/*
 * Telling the system what will be read: where elements of an array lie in the file.
 *
 * Records are read in random order, so the system's own reading ahead fetches what nobody needs and leaves the disk idle before
 * each record. A hint for whole requests keeps it busy with what is needed.
 */
#include "h5_private.h"

#include <fcntl.h>

static int64_t chunk_bytes(const pac_h5_array *a)
{
    hsize_t n = 0;
    hid_t create = H5Dget_create_plist(a->id);
    if (H5Pget_layout(create) != H5D_CHUNKED || H5Pget_chunk(create, 1, &n) != 1)
        n = 0;
    H5Pclose(create);
    return n <= INT64_MAX / 8 ? (int64_t)n * a->element : 0;
}

/* Finding chunk i takes the library i steps, so not all are asked for. Under the lock. */
static void look_up_places(pac_h5_array *a)
{
    chunk_places *p = &a->places;
    hsize_t chunks = 0, first, size;
    void *handle = NULL;
    unsigned filters;
    p->looked_up = true;
    p->chunk = chunk_bytes(a);
    bool known = p->chunk > 0 && H5Dget_num_chunks(a->id, H5S_ALL, &chunks) >= 0 && chunks > 0 && chunks <= INT32_MAX &&
                 H5Fget_vfd_handle(a->file->id, H5P_DEFAULT, &handle) >= 0 && handle != NULL;
    if (!known)
        return;
    p->fd = *(int *)handle;
    const int64_t n = chunks < PLACES ? (int64_t)chunks : PLACES;
    for (int64_t i = 0; i < n; i++) {
        p->number[i] = n > 1 ? i * ((int64_t)chunks - 1) / (n - 1) : 0;
        if (H5Dget_chunk_info(a->id, H5S_ALL, (hsize_t)p->number[i], &first, &filters, &p->at[i], &size) < 0)
            return;
    }
    p->count = n;
    (void)posix_fadvise(p->fd, 0, 0, POSIX_FADV_RANDOM);
}

/* Between two known chunks what lies between them is taken as evenly spread. */
static double place_of(const chunk_places *p, int64_t byte)
{
    const int64_t chunk = byte / p->chunk;
    int64_t i = 0;
    while (i + 2 < p->count && p->number[i + 1] <= chunk)
        i++;
    double apart = (double)p->chunk;
    if (i + 1 < p->count)
        apart = ((double)p->at[i + 1] - (double)p->at[i]) / (double)(p->number[i + 1] - p->number[i]);
    return (double)p->at[i] + (double)(chunk - p->number[i]) * apart + (double)(byte % p->chunk);
}

void pac_h5_array_will_read(pac_h5_array *a, int64_t first, int64_t n)
{
    if (first < 0 || n <= 0 || first > a->length || n > a->length - first)
        return;
    h5_enter();
    if (!a->places.looked_up)
        look_up_places(a);
    (void)h5_leave(PAC_OK);
    if (a->places.count == 0)
        return;
    double from = place_of(&a->places, first * a->element), to = place_of(&a->places, (first + n) * a->element);
    if (from >= 0 && to > from && to < 0x1p62)
        (void)posix_fadvise(a->places.fd, (off_t)from, (off_t)(to - from), POSIX_FADV_WILLNEED);
}
