/* What load.c and the model need of a shelf beside pac/model.h. */
#ifndef PAC_MODEL_SHELF_H
#define PAC_MODEL_SHELF_H

#include "model.h"

/**
 * The packed matrix of `need` on the shelf, made from t by whoever comes first. wait false: *out stays NULL while another
 * process makes it. Given back by pac_shelf_return(). Errors: those of pac_packed_place().
 */
pac_err pac_shelf_take(pac_shelf *s, const pac_backend *be, const pac_tensor_need *need, const pac_tensor *t, bool wait,
                       pac_packed **out);
/** Frees *p; its pages go with its last user. */
void pac_shelf_return(pac_shelf *s, const pac_tensor_need *need, pac_packed **p);

#endif
