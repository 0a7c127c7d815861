/*
 * One stage of the pipeline: a slice of the backbone, what learns in it, and the micro-batches in flight.
 *
 * A stage knows nothing of MPI waits or schedules: hybrid.c and evaluate.c drive it.
 */
#ifndef PAC_RUNTIME_STAGE_H
#define PAC_RUNTIME_STAGE_H

#include "pac/parallel.h"
#include "pac/runtime.h"

/* What flows over a boundary: arrays with the rows of this rank's samples. Backwards: their gradients. */
typedef struct flow {
    float *hidden;                 /* [N, D] running backbone rows */
    float *enc_out;                /* [S, D] encoder output, in front of decoder layers */
    pac_side_state side;           /* [N, R] and [S, R] */
    float *landing[PAC_MAX_SLOTS]; /* where messages go that were asked for (wire.c): these rows, or staging memory */
} flow;

/* What a forward through the backbone keeps for its backward (through.c). */
typedef struct trace trace;

/* One micro-batch in flight. Everything lives in its arena until the slot is taken again. */
typedef struct micro {
    pac_arena *arena;
    pac_arena *staging; /* what crosses boundaries, where rows are not the host's (pac/space.h); else NULL */
    bool used;          /* holds micro-batch m of the last or this mini-batch (training) */
    int64_t lent;       /* ticket of its last rows at the cache (hybrid.c), 0: none */
    int64_t m;
    int64_t n;              /* samples of the whole micro-batch */
    pac_range own;          /* this rank's samples of it */
    const int64_t *woff[2]; /* [n + 1] row offsets of the whole micro-batch, by stack */
    pac_batch batch;        /* this rank's part */
    pac_dropout drop;       /* p 0: none */
    pac_acts acts;
    flow in, out, din, dout;
    float *rows, *scratch; /* of the backbone at work (backbone.c) */
    float *h, *dh;         /* [N, D] of the last stack at the last stage */
    pac_side_saved *saved;
    trace *trace;
} micro;

/* What of the technique a stage holds: nothing, what it takes to run, or to train too. */
typedef enum stage_use { STAGE_BACKBONE, STAGE_RUNS, STAGE_LEARNS } stage_use;

/* Takes rows that the backbone has just left in the slot: b_i of a stack, or the last stack's final output (i = -1). */
typedef pac_err stage_sink(void *user, micro *x, int stack, int64_t i, const float *rows);

typedef struct stage {
    const pac_job *job;
    int64_t first, last; /* layers */
    int64_t D, R;        /* widths of backbone and side network (0: none) */
    bool through;        /* gradients go through the backbone */
    uint64_t drop_key;   /* of this step */
    pac_model *model;
    pac_tuned *tuned; /* NULL: the untouched backbone */
    pac_tuned
        *half[2]; /* evaluation of a side network: its encoder and decoder parts, as decoding does not repeat the encoder */
    bool reads[2][PAC_MAX_LAYERS + 1], reads_final;
    pac_arena *work, *again; /* scratch; activations of one layer that are made again (train.recompute) */
    pac_arena *apart;        /* activations of one micro-batch's side network (stage_apart_begin()) */
    bool alone;              /* the only stage of its plan (backbone.c) */
    stage_sink *sink;        /* NULL: none */
    bool holds;              /* it gets the rows of a micro-batch together, when the backbone is done */
    void *sink_user;
    int64_t slots;
    micro *slot;               /* [slots] */
    const pac_watch *watch;    /* told behind each layer of a training pass; NULL: none */
    double loss;               /* since stage_take_loss(), but for these, which the backend may still be computing: */
    pac_arena *losses, *heard; /* there, and copies on the host */
    int64_t nwaiting, waiting_capacity;
    void *waiting; /* waiting_loss[nwaiting] (loss.c) */
} stage;

/** Load layers [first, last) and what the technique adds to them, parameters zero. Not collective. */
pac_err stage_new(const pac_job *job, int64_t first, int64_t last, stage_use use, stage **out);
void stage_free(stage **s);
/** Make sure that at least n slots exist. */
pac_err stage_reserve(stage *s, int64_t n);
/** Free all slots; stage_reserve() makes new ones. */
void stage_drop_slots(stage *s);
/** What learns gets the values of `from` (a list that covers the slice). */
pac_err stage_fill(stage *s, const pac_params *from);
/** A side network: its encoder and decoder halves, with the stage's own values. Freed by stage_drop_halves() or with the stage.
 */
pac_err stage_set_halves(stage *s);
void stage_drop_halves(stage *s);
/** Masks of dropout follow from the step. */
void stage_set_step(stage *s, int64_t step);

/** The memory of a slot, and back. */
pac_err micro_new(const stage *s, micro *x);
void micro_free(micro *x);
/** Fill a slot with this rank's part of the micro-batch sample[0..n). Resets the slot. */
pac_err micro_begin(stage *s, micro *x, const pac_dataset *data, const int64_t *sample, int64_t n, const pac_layout *l);
/** Only its shape, so that rows of it can cross a boundary. Resets the slot. */
pac_err micro_shape(stage *s, micro *x, const pac_dataset *data, const int64_t *sample, int64_t n, const pac_layout *l);
/** Keys of a batch's rows for dropout, (sample, position), into x->drop; nothing where train.dropout is 0. */
pac_err micro_drop(const pac_job *job, micro *x, uint64_t key);
/** The pass of a micro-batch: training keeps, and drops where train.dropout says so. */
pac_pass micro_pass(micro *x, pac_arena *work, bool training);
/* The layers of `stack` in the slice, [lo, hi), and the stack's own, [base, end); none of it here: lo >= hi. */
typedef struct stack_part {
    pac_stack stack;
    int64_t base, end, lo, hi;
    int64_t N; /* rows of the micro-batch */
} stack_part;
stack_part stage_part(const stage *s, const micro *x, pac_stack stack);
/** Rows of the stack whose output goes to the head. */
int64_t head_rows(const pac_job *job, const pac_batch *b);

/**
 * May the memory of a phase that ended with this code be freed? Not after an error among several ranks: what was sent may never
 * be taken by a peer that this rank has left waiting, and freeing a link would wait for it. The command then ends all ranks.
 */
bool may_free(pac_err err);

/* Which traffic of a boundary: the encoder's part, the decoder's part, or both (training). */
enum { WIRE_ENCODE = 1, WIRE_DECODE = 2, WIRE_BOTH = 3 };

/** Send / receive the flow of `x` over the boundary in front of `layer`. grad: gradients, of whatever carries them. */
pac_err wire_send(stage *s, pac_link *k, int64_t layer, const micro *x, flow *f, int parts, bool grad, int64_t tag);
/*
 * Its halves: note what leaves, and start the copies where rows are not the host's; later, wait for those and post the
 * messages. Between the two the rows and the offsets of x stay as they are, while the host may queue other work.
 */
typedef struct departure {
    pac_link *link; /* NULL: nothing is to leave */
    int64_t n, nslots, tag, ticket;
    bool copied; /* the ticket is of copies */
    pac_slot slots[PAC_MAX_SLOTS];
    float *data[PAC_MAX_SLOTS];
} departure;
pac_err wire_start(stage *s, pac_link *k, int64_t layer, const micro *x, flow *f, int parts, bool grad, int64_t tag,
                   departure *out);
pac_err wire_depart(const stage *s, departure *d);
/** The room for what wire_recv() receives, in the micro-batch's arena. */
pac_err wire_room(stage *s, int64_t layer, micro *x, flow *f, int parts, bool grad);
pac_err wire_recv(stage *s, pac_link *k, int64_t layer, micro *x, flow *f, int parts, bool grad, int64_t tag);
/* Its halves: make room and ask for the rows; later, wait until they are there. */
pac_err wire_post(stage *s, pac_link *k, int64_t layer, micro *x, flow *f, int parts, bool grad, int64_t tag);
pac_err wire_take(stage *s, pac_link *k, int64_t layer, micro *x, flow *f, int parts, bool grad, int64_t tag);
/** *f: a copy, in `to`, of what of `from` crosses the boundary, so that it may leave while the slot of x is used again. */
pac_err wire_copy(stage *s, int64_t layer, micro *to, flow *f, const micro *x, flow *from, int parts, bool grad);

/** Run the backbone blocks of `stack` in this slice without keeping anything, from x->in to x->out; fills x->acts. */
pac_err stage_backbone(stage *s, micro *x, pac_stack stack);
/** Of both stacks, the n micro-batches x[0..n) layer by layer. */
pac_err stage_backbones(stage *s, micro *x, int64_t n);
/** Forward and backward of a training micro-batch. Loss rows are weighted by `scale` (1 / counted rows of the mini-batch). */
pac_err stage_fwd(stage *s, micro *x, float scale);
pac_err stage_bwd(stage *s, micro *x);
/** What of stage_fwd() comes behind the backbone: the side network, head and loss. */
pac_err stage_tail(stage *s, micro *x, float scale);

/**
 * Do several micro-batches go through the backbone layer by layer? Where it is streamed and all of it is here: then all rows
 * of a mini-batch are kept, and the side network runs micro-batch by micro-batch (stage_tail(), stage_bwd()) between begin and
 * end, with activations that are gone behind it.
 */
bool stage_by_layers(const stage *s, int64_t microbatches);
pac_err stage_apart_begin(stage *s, micro *x, pac_arena **own);
void stage_apart_end(stage *s, micro *x, pac_arena *own);

/* Through the backbone, with activations kept (through.c): from x->in to x->out, x->h at the last stage; and back. */
pac_err through_fwd(stage *s, micro *x);
pac_err through_bwd(stage *s, micro *x);

/** Loss of x->h (to stage_take_loss()) and, when grad, x->dh: head, softmax and cross-entropy in row blocks, so that memory
 * does not grow with T * V.
 */
pac_err stage_loss(stage *s, micro *x, const pac_model *head, float scale, bool grad);

/** *sum: the loss of every stage_loss() since the last call, over this rank's rows, each weighted by its scale. Waits. */
pac_err stage_take_loss(stage *s, double *sum);
void stage_drop_losses(stage *s);

/** Rows (or samples, with a classification head) of these samples that count in the loss. */
int64_t loss_count(const pac_job *job, const pac_dataset *data, const int64_t *sample, int64_t n);

#endif
