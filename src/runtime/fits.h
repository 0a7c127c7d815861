/* Whether a plan fits memory and disks, and what to say if not: the same lines for pac plan and pac simulate. */
#ifndef PAC_RUNTIME_FITS_H
#define PAC_RUNTIME_FITS_H

#include "pac/runtime.h"

enum { FITS_WHY = 2048 };

typedef enum fits_plan {
    FITS_MADE,     /* of the configuration: by its planner, or of its groups */
    FITS_GIVEN,    /* in a file */
    FITS_OTHERWISE /* its bytes are not those of a run (another schedule, a profile's bytes): no change is tried */
} fits_plan;

/**
 * peak[device]: bytes. Fills `why` where a device needs more than its budget, with the changes that were tried and suffice;
 * leaves it alone where none does. Not collective.
 */
pac_err fits_memory(const pac_job *job, pac_profile *p, const pac_plan *plan, fits_plan how, const double *peak,
                    char why[static FITS_WHY]);

/** The same for disks. */
pac_err fits_disks(const pac_job *job, pac_profile *p, const pac_plan *plan, char why[static FITS_WHY]);

/** To the note of an answer that leaves the cache out as a disk is too small: what would make room. */
pac_err fits_note_storing(const pac_job *job, pac_profile *p, pac_plan_answer *a);

/** system.planner: paper found nothing (its error is the last): PAC_ENOMEM with what was tried and helps. Not collective. */
pac_err plan_book_misfit(const pac_job *job, pac_profile *p);

#endif
