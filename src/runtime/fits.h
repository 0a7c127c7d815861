/* Whether a plan fits memory and disks, and what to say if not: one sentence for pac plan and pac simulate. */
#ifndef PAC_RUNTIME_FITS_H
#define PAC_RUNTIME_FITS_H

#include "pac/runtime.h"

enum { FITS_WHY = 512 };

/** peak[device]: bytes. Fills `why` where a device needs more than its budget; leaves it alone where none does. */
void fits_memory(const pac_profile *p, const pac_plan *plan, int64_t batch, const double *peak, char why[static FITS_WHY]);

/** The same for disks, with the changes of the configuration that were found to help. Returns whether all have room. */
bool fits_disks(const pac_config *c, const pac_plan_request *run, const pac_plan *plan, char why[static FITS_WHY]);

#endif
