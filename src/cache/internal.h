/*
 * What the files of src/cache share.
 *
 * A record is what one rank held of one sample: a checksum for each part, then the rows of each part. Records of one file lie
 * one after the other without gaps; the index says (sample, set, offset), where a set is a list of parts. All sizes follow from
 * the lengths of the samples, so a lookup entry is 16 bytes whatever the number of parts.
 */
#ifndef PAC_CACHE_INTERNAL_H
#define PAC_CACHE_INTERNAL_H

#include "pac/cache.h"
#include "pac/h5.h"
#include "pac/thread.h" /* its threads call neither MPI nor the log */

enum {
    CACHE_VERSION = 1,
    CACHE_MAX_PARTS = sizeof((pac_cache_layout *)0)->stack,
    CACHE_MAX_SETS = 4096,
    CACHE_PATH = 4096 + 64,
};

#define CACHE_MARK "pac activation cache\n"

typedef enum cache_state { CACHE_OPEN, CACHE_COMPLETE, CACHE_REDISTRIBUTED } cache_state;

/* ---- sizes (layout.c) ---- */

/** Checks the numbers once, so that no sum below can overflow. Errors: PAC_ESHAPE, PAC_ENOTBUILT (type). */
pac_err cache_check_layout(const pac_cache_layout *l);
/** Bytes of one part of one sample. */
int64_t cache_part_bytes(const pac_cache_layout *l, int64_t part, int64_t sample);
/** Stored rows from f32 and back: the only places that know how rows of a type look. Errors: PAC_ENUMERIC (beyond f16;
 * not finite in f16 or i8). */
pac_err cache_pack_rows(const pac_cache_layout *l, const float *rows, int64_t n, void *out);
pac_err cache_unpack_rows(const pac_cache_layout *l, const void *stored, int64_t n, float *out);
/** Of a part's stored bytes; depends on place too, so that a record of another sample is no match. */
uint64_t cache_checksum(const void *stored, int64_t bytes, int64_t sample, int64_t part);

/* ---- sets of parts (sets.c) ---- */

typedef struct cache_sets {
    int64_t count, parts;
    uint8_t *has;   /* [count * parts] is the part in the set? */
    int64_t *of[2]; /* [count] parts of each stack */
    int64_t capacity[3];
} cache_sets;

/** Number of the set with these parts, added if new. */
pac_err cache_sets_find(cache_sets *s, const uint8_t *has, const uint8_t *stack, int64_t *out);
void cache_sets_free(cache_sets *s);
/** Bytes of a sample's record with this set. */
int64_t cache_record_bytes(const pac_cache_layout *l, const cache_sets *s, int64_t set, int64_t sample);

/** The checksums in front of the rows. */
int64_t cache_sums_bytes(const cache_sets *s, int64_t set);

/* ---- one file (file.c) ---- */

/* Attributes of every file. */
typedef struct cache_header {
    uint64_t version, state, how;      /* cache_state, pac_redistribute */
    uint64_t world, rank, nodes, node; /* of the run and of the rank that wrote it */
    uint64_t run;                      /* the same in all files of one run */
    uint64_t parts, width, dtype, samples;
    uint64_t model, data, layout; /* pac_cache_id */
} cache_header;

typedef struct cache_record {
    int64_t sample, set, offset;
} cache_record;

typedef struct cache_file {
    char *path;
    cache_header h;
    pac_h5 *h5;
    pac_h5_array *rows, *index, *set_rows;
    cache_sets sets;
} cache_file;

/** A new file; header and layout are written and flushed. */
pac_err cache_file_create(const char *path, const cache_header *h, const pac_cache_layout *l, cache_file *out);
/** Open for reading; header and sets are checked. Errors: PAC_EDATA, PAC_EIO. */
pac_err cache_file_open(const char *path, cache_file *out);
/** Close; all is released in any case. */
pac_err cache_file_close(cache_file *f);
/** Add a set of parts to a file being written, if it is new. */
pac_err cache_file_set(cache_file *f, const uint8_t *has, const uint8_t *stack, int64_t *set);
pac_err cache_file_add_records(cache_file *f, const cache_record *r, int64_t n);
/** All records, each checked against sets, samples and the rows present. The caller frees *out. */
pac_err cache_file_records(const cache_file *f, const pac_cache_layout *l, cache_record **out, int64_t *n);
/** Read one record and check its parts; *buffer grows. Errors: PAC_EDATA (which part is damaged). */
pac_err cache_file_read(const cache_file *f, const pac_cache_layout *l, const cache_record *r, uint8_t **buffer,
                        int64_t *capacity);
/** The layout as the file tells it; stack and lengths too. Caller frees with cache_file_layout_free(). */
pac_err cache_file_layout(const cache_file *f, pac_cache_layout *out);
void cache_file_layout_free(pac_cache_layout *l);
/** Change the state of a closed file; owner (NULL: none) is stored as well. */
pac_err cache_file_promote(const char *path, cache_state state, pac_redistribute how, const int32_t *owner, int64_t samples);
/** owner[0..samples) as stored. */
pac_err cache_file_owner(const cache_file *f, int32_t *owner, int64_t samples);

/* ---- the directory (dir.c) ---- */

/** dir/rank-0007.h5 or dir/import-0007.h5. */
void cache_path(char out[CACHE_PATH], const char *dir, bool import, int64_t rank);
/** Make the directory and its parents. Errors: PAC_EIO. */
pac_err cache_make_dir(const char *dir);
/** Calls back with each of our files in the directory, sorted by name. *count (may be NULL): how many. */
typedef pac_err cache_visit(void *user, const char *path);
pac_err cache_each_file(const char *dir, cache_visit *visit, void *user, int64_t *count);
/** Remove our files (by name and mark), and the directory if it is then empty. Errors: PAC_EIO (also: in use by another run).
 */
pac_err cache_remove_files(const char *dir, bool directory_too);

/* ---- space (space.c) ---- */

/** Errors: PAC_ENOSPACE if fewer than `bytes` are free. */
pac_err cache_room_for(const char *dir, int64_t bytes);
/** Adds the ways out to the message of a PAC_ENOSPACE; hands any code on. */
pac_err cache_advise(pac_err err);

/* ---- the cache ---- */

typedef struct cache_writer cache_writer;
typedef struct cache_handover cache_handover;
typedef struct cache_reader cache_reader;

typedef struct cache_entry {
    int64_t offset;
    int32_t file, set;
} cache_entry;

/* Where the records of each sample are that this rank can read. */
typedef struct cache_lookup {
    int64_t files;
    cache_file *file;
    int64_t *start; /* [samples + 1] into entry */
    cache_entry *entry;
} cache_lookup;

struct pac_cache {
    char *dir;
    pac_cache_layout l;
    cache_header h;
    cache_handover *writing; /* until pac_cache_finish() */
    int32_t *owner;          /* [samples]; NULL: every rank can read every sample */
    cache_lookup at;
    const pac_space *reads_into; /* where the reader's buffers are pinned, or NULL */
    cache_reader *reader;  /* from the first prefetch on */
    pac_cache_times times; /* of what has ended */
};

/** A number that tells runs apart. */
uint64_t cache_new_run(void);
/** A cache without files. */
pac_err cache_new(const char *dir, const pac_cache_layout *l, const pac_cache_id *id, pac_cache **out);
/** Release everything, closing files. Not collective. */
void cache_free(pac_cache **c);

/* ---- writing: the file (write.c), and the thread that writes it (handover.c) ---- */

/** A new file of this rank. */
pac_err cache_writer_open(const pac_cache *c, cache_writer **out);
/** One part of n samples: converted and copied; what is written is another micro-batch's. */
pac_err cache_writer_add(cache_writer *w, int64_t part, const int64_t *sample, int64_t n, const float *rows);
/** Write what is kept and close. *bytes: of all records. After an error the writer is still to be dropped, if *w is not NULL.
 */
pac_err cache_writer_finish(cache_writer **w, int64_t *bytes);
/** Close the file as it is and forget what is pending. */
void cache_writer_drop(cache_writer **w);
const char *cache_writer_path(const cache_writer *w);

/** Of writing, so far. */
void cache_handover_times(cache_handover *h, pac_cache_times *t);
/** Ends the thread; what it has not taken yet is forgotten. The file is closed as it is. */
void cache_handover_drop(cache_handover **h);

/** Open the files that this rank reads and find its samples in them. Errors: PAC_EDATA (a sample lacks a part), PAC_EIO. */
pac_err cache_lookup_build(pac_cache *c);
void cache_lookup_free(cache_lookup *at);

void cache_reader_stop(cache_reader **r);

#endif
