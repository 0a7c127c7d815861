/*
 * The number fields of profile.yaml, in the order in which they are written: one table for each map of the file, used by its
 * reader and its writer.
 */
#ifndef PAC_PLANNER_PROFILE_FIELDS_H
#define PAC_PLANNER_PROFILE_FIELDS_H

#include "pac/profile.h"

#include <stddef.h>

typedef struct pac_number_field {
    const char *key;
    size_t at;       /* where in the struct its double is */
    bool needed;     /* else 0 where the file does not have it */
    const char *why; /* written behind it, "" for nothing */
} pac_number_field;

/* Of the file, of a layer and of a device; a NULL key behind the last. */
extern const pac_number_field pac_profile_numbers[], pac_layer_numbers[], pac_device_numbers[];

/* Kinds of work, in the order of pac_cost_kind; NULL behind the last. */
extern const char *const pac_kind_keys[PAC_COST_NKINDS + 1];

static inline double *pac_field_of(const pac_number_field *f, const void *record)
{
    return (double *)(void *)((char *)(uintptr_t)record + f->at);
}

#endif
