/*
 * Double buffers at a stage's lower boundary (boxes.h).
 *
 * Rows of micro-batch m + 1 arrive in a box while m is computed; m's own box is read until its backward is done, so there is
 * one box more than slots. Gradients are copied out of the slot into one of two boxes: a copy in memory is little beside a
 * message. At the upper boundary nothing of the kind is needed: what was sent there has arrived before its gradient comes back,
 * and gradients arrive in the slot, which is there from the forward on (pipeline.c).
 */
#include "boxes.h"

int64_t boxes_fwd_tag(int64_t m)
{
    return 2 * m;
}

int64_t boxes_bwd_tag(int64_t m)
{
    return 2 * m + 1;
}

static void free_arrivals(boxes *b)
{
    for (int64_t i = 0; i < b->arrivals; i++)
        micro_free(&b->arrive[i]);
    pac_mem_free(b->arrive);
    b->arrive = NULL;
    b->arrivals = 0;
}

void boxes_free(boxes *b)
{
    free_arrivals(b);
    for (int i = 0; i < BOXES_LEAVING; i++)
        micro_free(&b->leave[i]);
}

pac_err boxes_reserve(boxes *b, int64_t in_flight)
{
    void *p;
    if (b->s->first == 0 || in_flight < b->arrivals)
        return PAC_OK;
    free_arrivals(b);
    PAC_TRY(pac_mem_array(PAC_MEM_COMM, in_flight + 1, sizeof(micro), &p));
    b->arrive = p;
    while (b->arrivals < in_flight + 1)
        PAC_TRY(micro_new(b->s, &b->arrive[b->arrivals++]));
    for (int i = 0; i < BOXES_LEAVING && b->leave[i].arena == NULL; i++)
        PAC_TRY(micro_new(b->s, &b->leave[i]));
    return PAC_OK;
}

pac_err boxes_expect(boxes *b, const parcel *p)
{
    stage *s = b->s;
    micro *box = &b->arrive[p->m % b->arrivals];
    PAC_TRY(micro_shape(s, box, &s->job->train, p->sample, p->n, p->layout));
    b->expected = p->m + 1;
    if (b->prev == NULL)
        return wire_room(s, s->first, box, &box->in, WIRE_BOTH, false);
    return wire_post(s, b->prev, s->first, box, &box->in, WIRE_BOTH, false, boxes_fwd_tag(p->m));
}

pac_err boxes_arrive(boxes *b, micro *x, int64_t m)
{
    stage *s = b->s;
    micro *box = &b->arrive[m % b->arrivals];
    if (b->prev != NULL)
        PAC_TRY(wire_take(s, b->prev, s->first, box, &box->in, WIRE_BOTH, false, boxes_fwd_tag(m)));
    x->in = box->in;
    return PAC_OK;
}

pac_err boxes_leave(boxes *b, micro *x, int64_t m, departure *out)
{
    stage *s = b->s;
    micro *box = &b->leave[b->left++ % BOXES_LEAVING];
    if (box->used && b->prev != NULL)
        PAC_TRY(pac_link_flush(b->prev, boxes_bwd_tag(box->m)));
    pac_arena_reset(box->arena);
    if (box->staging != NULL)
        pac_arena_reset(box->staging);
    *box = (micro){
        .arena = box->arena, .staging = box->staging, .used = true, .m = m, .n = x->n, .own = x->own, .batch = x->batch};
    /* The slot's own offsets: wire_depart() looks at them, at the latest when the slot is taken again (flush_slot()). */
    box->woff[PAC_ENC] = x->woff[PAC_ENC];
    box->woff[PAC_DEC] = x->woff[PAC_DEC];
    PAC_TRY(wire_copy(s, s->first, box, &box->din, x, &x->din, WIRE_BOTH, true));
    if (b->prev == NULL)
        return PAC_OK;
    return wire_start(s, b->prev, s->first, box, &box->din, WIRE_BOTH, true, boxes_bwd_tag(m), out);
}

pac_err boxes_flush(boxes *b)
{
    return b->prev != NULL ? pac_link_flush(b->prev, -1) : PAC_OK;
}
