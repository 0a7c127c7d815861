/* Layouts in the form in which local search edits them: the stage of each device, the cut behind each stage. */
#ifndef PAC_PLANNER_DRAFT_H
#define PAC_PLANNER_DRAFT_H

#include "search.h"

typedef struct pac_draft {
    int64_t stages, M;
    int16_t end[PAC_MAX_DEVICES]; /* layers before the end of each stage */
    int16_t in[PAC_MAX_DEVICES];  /* stage of each device, -1: left out */
    double total, lacks;          /* as pac_layout */
} pac_draft;

/** Whether every stage has a device and layers and the request's conditions are kept. */
bool pac_draft_is_allowed(const pac_search *k, const pac_draft *x);

/** Scores an allowed draft; the search keeps it where it is the best of its kind. */
void pac_draft_score(pac_search *k, pac_draft *x);

/** Fits before not, then by seconds or bytes that lack; ties and rounding do not count. */
bool pac_draft_is_better(const pac_draft *a, const pac_draft *b);

/** The stage whose devices lack most, or the slowest where nothing lacks. Scores the draft once more. */
int64_t pac_draft_worst(pac_search *k, pac_draft *x);

/**
 * Cuts the layers anew for the draft's groups: the smallest time within which every stage can do its layers at its devices'
 * summed rates, given memory. An approximation (samples are not whole) that takes a few evaluations' time.
 */
void pac_draft_cut(const pac_search *k, pac_draft *x);

/** From a layout. */
pac_draft pac_draft_of(const pac_search *k, const pac_layout *x);

#endif
