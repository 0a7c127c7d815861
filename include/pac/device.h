/*
 * The accelerator of this process: its memory, its order of work, and its op table (cuda/; elsewhere these functions say that
 * there is none).
 *
 * One device per process, opened once. Ops and copies are queued on one compute stream in the order of the calls and run there
 * later, without the host waiting; only the functions that say "waits" wait. A fault of the device shows at the next of those.
 * Calls come from one thread at a time, the one that computes (pac_device_pinned_*() and pac_device_wait() from any).
 *
 * Which memory an op of the table gets on this backend:
 *   device  every float array, weights and pac_attn.bias_table included, and the outputs of argmax (int32) and of losses;
 *   host    what says which rows are meant, and structs: ids, labels, toff, soff, off, dropout's row, pac_attn, pac_adamw. The
 * op has read them when it returns; the backend takes them to the device, once per contents and not once per call. sumsq
 * returns its value, so it waits.
 */
#ifndef PAC_DEVICE_H
#define PAC_DEVICE_H

#include "pac/err.h"
#include "pac/ops.h"

/* How gemm multiplies: all take and give f32 and accumulate in f32. */
typedef enum pac_precision {
    PAC_PREC_F32,  /* f32 products */
    PAC_PREC_TF32, /* operands rounded to 10 bits of mantissa (from compute capability 8.0, else as f32) */
    PAC_PREC_BF16, /* operands rounded to bf16 (from 8.0, else as f32) */
    PAC_PREC_F16,  /* operands rounded to f16, larger numbers to its largest, 65504 */
} pac_precision;

typedef struct pac_device_info {
    char name[256];
    int64_t total, available; /* bytes of memory; integrated: shared with the host */
    int64_t major, minor;     /* compute capability */
    bool integrated;          /* device and host share one memory */
    uint64_t place;           /* the same number in every process of the machine that has this device; never 0 */
} pac_device_info;

/** Devices that can be used; 0 where there are none, no driver, or no backend was built. */
int64_t pac_device_count(void);

/** Why pac_device_count() is 0, one line; "" when it is not. Static memory. */
const char *pac_device_absence(void);

/**
 * Open device `index` (0 .. count-1) for this process; a second call with the same index does nothing. Several processes may
 * open the same device. Errors: PAC_ENOTBUILT (not built), PAC_ECONFIG (no such device), PAC_ENOMEM, PAC_EINTERNAL (the
 * driver's words).
 */
pac_err pac_device_open(int64_t index);
/** Wait, give back all memory that the backend holds for itself, and close. Blocks of pac_device_alloc() must have been freed.
 */
void pac_device_close(void);
bool pac_device_is_open(void);

/** The op table of the accelerator, NULL when none was built. It works while a device is open. */
const pac_backend *pac_device_backend(void);

/** Name of device `index`, with `bytes` of room; it need not be open. Errors: as pac_device_open(). */
pac_err pac_device_name(int64_t index, char *buf, size_t bytes);
/** Facts about the open device; `available` is read anew at each call. */
pac_err pac_device_query(pac_device_info *out);
/** Total and available bytes of the open device. */
pac_err pac_device_memory(int64_t *total, int64_t *available);
/** True when the open device shares its memory with the host, so that its bytes are counted once. */
bool pac_device_integrated(void);

/** True when the open device is integrated and reads pinned memory of the host as it is: then that need not be copied for it.
 */
bool pac_device_zero_copy(void);

/**
 * Device memory, aligned to 256, contents undefined; not for the host to read or write. No ledger: that is the caller's. A
 * block is given back after the work queued so far. Errors: PAC_ENOMEM (message with size, total and available bytes).
 */
pac_err pac_device_alloc(size_t bytes, void **out);
void pac_device_free(void *p);

/** Host to device, in the order of the stream; `host` may be overwritten as soon as the call returns. */
pac_err pac_device_upload(void *device, const void *host, size_t bytes);
/** Device to host; waits: the bytes, and all work queued before, are done on return. */
pac_err pac_device_download(void *host, const void *device, size_t bytes);
/** Device to device, in the order of the stream; the ranges do not overlap. */
pac_err pac_device_move(void *to, const void *from, size_t bytes);
/** Set bytes, in the order of the stream. */
pac_err pac_device_fill(void *device, int byte, size_t bytes);
/** Waits for all queued work. Errors: PAC_EINTERNAL (the first fault of any op since, in the driver's words). */
pac_err pac_device_sync(void);

/*
 * Overlap. Pinned memory belongs to the host and is copied to and from without an intermediate; on every device it may also be
 * given to ops in place of device memory (zero copy, worth it on integrated devices only). A started copy runs beside later
 * ops, on a stream of its own; the device block must stay untouched, and the pinned one unread, until pac_device_wait(ticket).
 */
pac_err pac_device_pinned_alloc(size_t bytes, void **out);
void pac_device_pinned_free(void *p);
/** Start a copy device to host that follows the work queued so far. */
pac_err pac_device_download_start(void *pinned, const void *device, size_t bytes, int64_t *ticket);
/**
 * Start a copy host to device at once, beside the work queued so far, which must not use the block; ops queued after
 * pac_device_wait() or pac_device_follow() see it.
 */
pac_err pac_device_upload_start(void *device, const void *pinned, size_t bytes, int64_t *ticket);
/** Waits (the host) for a started copy. */
pac_err pac_device_wait(int64_t ticket);
/** Lets the ops queued from now on wait for a started copy; the host does not. */
pac_err pac_device_follow(int64_t ticket);

/** How gemm multiplies from now on; PAC_PREC_F32 at the start. Returns what is in effect on this device. */
pac_precision pac_device_precision(pac_precision wanted);

/**
 * Promise that the n floats at x (device memory, a frozen weight) do not change until they are freed or released: the 16-bit
 * modes then keep a rounded copy of 2n bytes, made when gemm first meets it, instead of rounding anew in each call. Nothing
 * happens in the other modes. pac_device_free() releases; release before the floats are written.
 */
void pac_device_constant(const float *x, int64_t n);
void pac_device_constant_release(const float *x);

#endif
