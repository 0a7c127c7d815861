/* Records as JSON lines: rank 0 owns the file, the others a text that grows until the phase ends. */
#include "record.h"
#include "pac/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct record {
    FILE *file; /* rank 0 */
    char path[4200];
    double start;
    void *text; /* other ranks: lines not yet sent */
    int64_t used, capacity;
};

static pac_err open_file(record *r, const char *output)
{
    if (pac_world_rank() != 0)
        return PAC_OK;
    snprintf(r->path, sizeof r->path, "%s/metrics.jsonl", output);
    r->file = fopen(r->path, "w");
    PAC_CHECK(r->file != NULL, PAC_EIO, "%s: cannot write: %s (choose another `output:`)", r->path, strerror(errno));
    return PAC_OK;
}

pac_err record_open(const char *output, record **out)
{
    void *p;
    pac_err err = pac_mem_alloc(PAC_MEM_OTHER, sizeof(record), &p);
    if (err == PAC_OK) {
        *(record *)p = (record){.start = pac_now()};
        *out = p;
        err = open_file(p, output);
    }
    return pac_agree(pac_world(), err);
}

static void keep_text(record *r, const char *line)
{
    int64_t n = (int64_t)strlen(line);
    if (pac_mem_grow(PAC_MEM_OTHER, &r->text, &r->capacity, r->used + n + 2, 1) != PAC_OK)
        return;
    char *end = (char *)r->text + r->used;
    memcpy(end, line, (size_t)n);
    memcpy(end + n, "\n", 2);
    r->used += n + 1;
}

void record_line(record *r, json_t *object)
{
    if (r == NULL || object == NULL)
        return;
    json_object_set_new(object, "rank", json_integer(pac_world_started_as(pac_world_rank())));
    json_object_set_new(object, "time", json_real(pac_now() - r->start));
    char *line = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9));
    if (line != NULL && r->file != NULL)
        fprintf(r->file, "%s\n", line);
    else if (line != NULL)
        keep_text(r, line);
    free(line);
    json_decref(object);
}

static pac_err write_out(record *r, const char *all)
{
    if (r->file == NULL)
        return PAC_OK;
    fputs(all, r->file);
    PAC_CHECK(fflush(r->file) == 0 && !ferror(r->file), PAC_EIO, "%s: cannot write: %s", r->path, strerror(errno));
    return PAC_OK;
}

pac_err record_flush(record *r)
{
    char *all = NULL;
    PAC_TRY(pac_gather_text(pac_world(), r->used > 0 ? r->text : "", &all));
    r->used = 0;
    pac_err err = write_out(r, all == NULL ? "" : all);
    pac_mem_free(all);
    return pac_agree(pac_world(), err);
}

void record_close(record **rp)
{
    record *r = *rp;
    if (r == NULL)
        return;
    if (r->file != NULL)
        fclose(r->file);
    pac_mem_free(r->text);
    pac_mem_free(r);
    *rp = NULL;
}
