/*
 * Text to the words that WordPiece cuts: cleaned, spaced, stripped, lower-cased as BERT's basic tokenizer does.
 */
#ifndef PAC_DATA_WORDPIECE_WORDS_H
#define PAC_DATA_WORDPIECE_WORDS_H

#include "pac/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { PAC_WORD_CHARS = 100, PAC_WORD_BYTES = 4 * PAC_WORD_CHARS };

typedef struct pac_word_rules {
    bool lower, strip_accents, space_cjk;
} pac_word_rules;

/* Takes a word, or NULL for one of more than PAC_WORD_CHARS characters. */
typedef pac_err (*pac_take_word)(void *user, const char *word, int64_t bytes);

/** The words and punctuation marks of `n` bytes of valid UTF-8. Errors: those of `take`. */
pac_err pac_words(const pac_word_rules *rules, const char *text, int64_t n, pac_take_word take, void *user);

#endif
