/* The backend "split": what its memory (split.c) and its ops (split_ops.c) share. */
#ifndef PAC_SPLIT_H
#define PAC_SPLIT_H

#include "kernels.h"

extern const pac_space pac_split_space;

/* The memory may be touched between these. */
void split_enter(void);
void split_leave(void);
/* End the program with a message unless p is an array of the backend (or NULL), or is not one. name: of the argument. */
void split_must_be_ours(const void *p, const char *name);
void split_must_be_hosts(const void *p, const char *name);

#endif
