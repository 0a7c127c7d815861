/*
 * Layers of a frozen slice that are resident only while they are at work (model.stream): the one at work, and the one behind
 * it, which a thread reads meanwhile. So a slice that is larger than memory can run; every pass reads it anew.
 *
 * Weights keep their addresses in the mapped file, so nothing else of the model knows of this. Which layer is next is what
 * followed last time: a pass over the slice, the decoder's turns of a generation, and the head are all the same to it.
 */
#ifndef PAC_MODEL_STREAM_H
#define PAC_MODEL_STREAM_H

#include "model.h"

/**
 * A stream over the blocks (and the head, as the number behind the last) of a slice whose weights have their places; with
 * PAC_LOAD_SHAPES only the ledger moves. Ledger: PAC_MEM_WEIGHTS, what is resident. Errors: PAC_ENOMEM.
 */
pac_err pac_stream_new(pac_model *m, pac_stream **out);
void pac_stream_free(pac_stream **s);

/** Make a layer resident, waiting for it, and begin to read the next one. NULL: nothing to do. Errors: PAC_EIO (names the
 * model). */
pac_err pac_stream_use(pac_stream *s, int64_t layer);
/** The layer at work is done with; what is read ahead stays. NULL: nothing to do. */
void pac_stream_rest(pac_stream *s);

enum { PAC_STREAM_ROWS = 256 }; /* of the embedding that are looked up at once */
/** What such a look-up makes resident, at most, of a table of so many bytes. */
int64_t pac_stream_table_bytes(int64_t bytes);
/** Around all look-ups of a pass: these bytes come to the ledger, and go again. NULL: nothing to do. */
void pac_stream_table_begin(const pac_stream *s, int64_t bytes);
void pac_stream_table_end(const pac_stream *s, int64_t bytes);
/** After each of them: the table's pages leave this process. NULL: nothing to do. */
void pac_stream_table_drop(const pac_stream *s, const void *table, int64_t bytes);

#endif
