/* What the two files that call HDF5 share: how an array is kept, and the mutex around the library. */
#ifndef PAC_H5_PRIVATE_H
#define PAC_H5_PRIVATE_H

#include "pac/h5.h"

#include <hdf5.h>

struct pac_h5 {
    hid_t id;
    char *path;
};

enum { PLACES = 64 };

/* Where chunks lie in the file: of some of them, evenly spread. */
typedef struct chunk_places {
    bool looked_up;
    int fd;        /* the library's own */
    int64_t chunk; /* bytes */
    int64_t count; /* places known, 0: none */
    int64_t number[PLACES];
    haddr_t at[PLACES];
} chunk_places;

struct pac_h5_array {
    pac_h5 *file; /* borrowed */
    hid_t id;
    hid_t memory_type;
    int64_t length, element; /* elements; bytes of one */
    chunk_places places;
    char name[32];
};

/** Take the library, whose errors are then those of this call. */
void h5_enter(void);
/** Give it back; hands the code on. */
pac_err h5_leave(pac_err err);

#endif
