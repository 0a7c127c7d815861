/*
 * What crosses a stage boundary, as a table: in front of an encoder layer the running rows; in front of a decoder layer also
 * the encoder's outputs, which every decoder layer reads. method.md section 5.
 *
 * Where rows are not the host's, they cross through the micro-batch's staging memory.
 */
#include "stage.h"

typedef struct field {
    float **rows;
    pac_stack stack;
    int64_t width;
} field;

static void add_field(field *f, int64_t *n, float **rows, pac_stack stack, int64_t width)
{
    f[(*n)++] = (field){rows, stack, width};
}

/*
 * The fields of boundary `layer`. Forward: the backbone's rows, and the side network's where there is one; backward: of the one
 * that carries gradients.
 */
static int64_t boundary_fields(const stage *s, int64_t layer, flow *f, int parts, bool grad, field *out)
{
    int64_t E = s->job->desc.layers[PAC_ENC], n = 0;
    bool decoder = layer >= E, side = s->R > 0, backbone = !grad || s->through;
    if (parts & WIRE_ENCODE) {
        if (backbone)
            add_field(out, &n, decoder ? &f->enc_out : &f->hidden, PAC_ENC, s->D);
        if (side)
            add_field(out, &n, decoder ? &f->side.enc : &f->side.a, PAC_ENC, s->R);
    }
    if ((parts & WIRE_DECODE) && layer > E) {
        if (backbone)
            add_field(out, &n, &f->hidden, PAC_DEC, s->D);
        if (side)
            add_field(out, &n, &f->side.a, PAC_DEC, s->R);
    }
    return n;
}

static int64_t size_of(const micro *x, const field *f)
{
    const int64_t *off = f->stack == PAC_ENC ? x->batch.soff : x->batch.toff;
    return (off[x->batch.B] - off[0]) * f->width;
}

static bool stages(const stage *s, const micro *x)
{
    return x->staging != NULL && !s->job->direct;
}

/* data: the rows themselves, or places to stage them. */
static pac_err slots_of(const stage *s, const micro *x, const field *f, int64_t n, pac_slot *slots, float **data)
{
    for (int64_t i = 0; i < n; i++) {
        slots[i] = (pac_slot){.width = f[i].width, .off = x->woff[f[i].stack]};
        data[i] = *f[i].rows;
        if (stages(s, x))
            PAC_TRY(pac_arena_floats(x->staging, size_of(x, &f[i]), &data[i]));
    }
    return PAC_OK;
}

/* Copies end in the order in which they were started: the last one's ticket is all of them. Rows that leave from where they
 * are only have to be made. */
static pac_err start_copies(const pac_space *space, const micro *x, const field *f, departure *d)
{
    for (int64_t i = 0; i < d->nslots; i++) {
        const size_t bytes = d->data[i] != *f[i].rows ? (size_t)size_of(x, &f[i]) * sizeof(float) : 0;
        PAC_TRY(space->download_start(d->data[i], *f[i].rows, bytes, &d->ticket));
        d->copied = true;
    }
    return PAC_OK;
}

pac_err wire_start(stage *s, pac_link *k, int64_t layer, const micro *x, flow *f, int parts, bool grad, int64_t tag,
                   departure *out)
{
    field fields[PAC_MAX_SLOTS];
    departure d = {.link = k, .n = x->n, .tag = tag, .nslots = boundary_fields(s, layer, f, parts, grad, fields)};
    PAC_TRY(slots_of(s, x, fields, d.nslots, d.slots, d.data));
    if (s->job->be->space != NULL)
        PAC_TRY(start_copies(s->job->be->space, x, fields, &d));
    *out = d;
    return PAC_OK;
}

pac_err wire_depart(const stage *s, departure *d)
{
    if (d->link == NULL)
        return PAC_OK;
    if (d->copied)
        PAC_TRY(s->job->be->space->wait(d->ticket));
    PAC_TRY(pac_link_send(d->link, d->n, d->slots, d->nslots, (const float *const *)d->data, d->tag));
    d->link = NULL;
    return PAC_OK;
}

pac_err wire_send(stage *s, pac_link *k, int64_t layer, const micro *x, flow *f, int parts, bool grad, int64_t tag)
{
    departure d;
    PAC_TRY(wire_start(s, k, layer, x, f, parts, grad, tag, &d));
    return wire_depart(s, &d);
}

pac_err wire_room(stage *s, int64_t layer, micro *x, flow *f, int parts, bool grad)
{
    field fields[PAC_MAX_SLOTS];
    int64_t n = boundary_fields(s, layer, f, parts, grad, fields);
    for (int64_t i = 0; i < n; i++)
        PAC_TRY(pac_arena_floats(x->arena, size_of(x, &fields[i]), fields[i].rows));
    return PAC_OK;
}

pac_err wire_post(stage *s, pac_link *k, int64_t layer, micro *x, flow *f, int parts, bool grad, int64_t tag)
{
    field fields[PAC_MAX_SLOTS];
    pac_slot slots[PAC_MAX_SLOTS];
    PAC_TRY(wire_room(s, layer, x, f, parts, grad));
    int64_t n = boundary_fields(s, layer, f, parts, grad, fields);
    PAC_TRY(slots_of(s, x, fields, n, slots, f->landing));
    if (!stages(s, x)) /* ops before may still use the place */
        PAC_TRY(pac_space_sync(s->job->be->space));
    return pac_link_post(k, x->n, slots, n, f->landing, tag);
}

pac_err wire_take(stage *s, pac_link *k, int64_t layer, micro *x, flow *f, int parts, bool grad, int64_t tag)
{
    field fields[PAC_MAX_SLOTS];
    int64_t n = boundary_fields(s, layer, f, parts, grad, fields);
    PAC_TRY(pac_link_take(k, tag));
    for (int64_t i = 0; i < n && stages(s, x); i++)
        PAC_TRY(pac_upload(s->job->be->space, *fields[i].rows, f->landing[i], size_of(x, &fields[i])));
    return PAC_OK;
}

pac_err wire_recv(stage *s, pac_link *k, int64_t layer, micro *x, flow *f, int parts, bool grad, int64_t tag)
{
    PAC_TRY(wire_post(s, k, layer, x, f, parts, grad, tag));
    return wire_take(s, k, layer, x, f, parts, grad, tag);
}

pac_err wire_copy(stage *s, int64_t layer, micro *to, flow *f, const micro *x, flow *from, int parts, bool grad)
{
    field fields[PAC_MAX_SLOTS], source[PAC_MAX_SLOTS];
    *f = *from;
    int64_t n = boundary_fields(s, layer, f, parts, grad, fields);
    boundary_fields(s, layer, from, parts, grad, source);
    if (stages(s, x)) /* sending will copy them to the host */
        return PAC_OK;
    for (int64_t i = 0; i < n; i++) {
        PAC_TRY(pac_arena_floats(to->arena, size_of(x, &source[i]), fields[i].rows));
        s->job->be->copy(*fields[i].rows, *source[i].rows, size_of(x, &source[i]));
    }
    return PAC_OK;
}
