/*
 * Sentences to one sequence of ids: special tokens around them, and truncation.
 */
#ifndef PAC_DATA_SEQUENCE_H
#define PAC_DATA_SEQUENCE_H

#include "specials.h"

/** The tokenizer's form fits the model and the lengths. Errors: PAC_EDATA, PAC_ECONFIG. */
pac_err pac_sequence_check(const pac_data_opts *o);

/** Append one text, at most `max` ids with its special tokens. */
pac_err pac_sequence_one(const pac_data_opts *o, const char *text, int64_t max, pac_ids *out);

/**
 * Append two sentences as the source: joined, together at most max_source ids, the longer one cut first; or each a sequence of
 * its own (o->separate; with pad_max the first is filled).
 *
 * @param[out] second  id, counted from the start, where the second sentence (separate: its sequence) begins
 * Source: Hugging Face tokenizers, truncate_encodings(), LongestFirst.
 */
pac_err pac_sequence_two(const pac_data_opts *o, const char *a, const char *b, pac_ids *out, int32_t *second);

#endif
