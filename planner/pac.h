/* How `planner: pac` turns what its search found into an answer. */
#ifndef PAC_PLANNER_PAC_H
#define PAC_PLANNER_PAC_H

#include "search.h"

enum { PAC_MOST_PLANNED_LAYERS = 1024, PAC_FEW_DEVICES = 4 };
#define PAC_MOST_PAPER_WORK 3e7 /* evaluations of a stage by the paper's dynamic programme: some 0.1 s */

typedef enum pac_way {
    PAC_WAY_AUTO,  /* exact where the cluster is small */
    PAC_WAY_LARGE, /* local search whatever the size */
    PAC_WAY_EXACT, /* after local search; at most 6 devices and 16 layers */
} pac_way;

/** pac_plan_best() by a way of one's choice: tests. */
pac_err pac_plan_best_by(const pac_plan_request *q, pac_way way, pac_plan_answer *out);

/** The plan of a layout, its predictions, and the candidates that it beat; `one`: the best single device. Errors: PAC_ENOMEM.
 */
pac_err pac_explain_answer(pac_search *k, const pac_layout *win, const pac_layout *one, pac_plan_answer *out);

/** The layout that lacks the fewest bytes, by the sums over layers; NULL where the request's conditions admit none. */
const pac_layout *pac_search_nearest(const pac_search *k);

/** PAC_ENOMEM with the layout that came nearest, and what it lacks by the sums over layers. */
pac_err pac_explain_misfit(pac_search *k);

#endif
