/*
 * Records: what was measured, as JSON lines of one format from every rank (docs/formats.md). Rank 0's lines are written at
 * once; other ranks' lines are gathered at the end of each phase.
 */
#ifndef PAC_RUNTIME_RECORD_H
#define PAC_RUNTIME_RECORD_H

#include "pac/parallel.h"

#include <jansson.h>

typedef struct record record;

/** Open output/metrics.jsonl for a new run (rank 0). Collective. */
pac_err record_open(const char *output, record **out);
/** Append one object; the reference is stolen. "rank" and "time" are added. NULL (out of memory) is ignored. Not collective. */
void record_line(record *r, json_t *object);
/** Send the other ranks' lines to rank 0 and write everything to disk. Collective. */
pac_err record_flush(record *r);
void record_close(record **r);

#endif
