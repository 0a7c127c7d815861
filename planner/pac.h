/* How `planner: pac` turns what its search found into an answer. */
#ifndef PAC_PLANNER_PAC_H
#define PAC_PLANNER_PAC_H

#include "search.h"

enum { PAC_MOST_PLANNED_LAYERS = 1024 };
#define PAC_MOST_PAPER_WORK 3e7 /* evaluations of a stage by the paper's dynamic programme: some 0.1 s */

/** The plan of a layout, its predictions, and the candidates that it beat; `one`: the best single device. Errors: PAC_ENOMEM.
 */
pac_err pac_explain_answer(pac_search *k, const pac_layout *win, const pac_layout *one, pac_plan_answer *out);

/** PAC_ENOMEM with the smallest change that would make something fit. */
pac_err pac_explain_misfit(pac_search *k);

#endif
