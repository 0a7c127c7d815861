/* What the files of the ledger share. */
#ifndef PAC_CORE_LEDGER_H
#define PAC_CORE_LEDGER_H

#include "pac/space.h"

/* Count an allocation attempt: must this one fail (tests)? Is it dry? */
bool ledger_fault_is_due(bool *dry);
/* Bytes and blocks come (or go, negative); apart: in another memory than the host's. */
void ledger_block(pac_mem_tag tag, int64_t bytes, int blocks, bool apart);

/* A block of a space with undefined contents, or (pinned) of the host; freed by pac_space_free(). space is not NULL. */
pac_err space_block(const pac_space *space, bool pinned, pac_mem_tag tag, size_t bytes, void **out);

#endif
