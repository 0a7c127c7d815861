/*
 * Copies. What the stream carries to the device goes through a ring of pinned blocks, so that the host's memory is free at once
 * and the host waits only when the ring is full. Started copies (pac_device_*_start) run on two streams of their own, one for
 * each direction: downloads after the work queued so far, uploads at once; what follows their ticket comes after them.
 */
#include "gpu.h"

#include <string.h>

enum { RING = 4, TICKETS = 256, UP = 0, DOWN = 1 };
static const size_t ring_bytes = (size_t)2 << 20;

static struct {
    void *block;
    cudaEvent_t copied;
} ring[RING];
static int ring_next;

/* Ticket 2 n + direction is the n-th copy of its direction. Copies of a direction end in order, so a later event will do. */
static struct {
    cudaStream_t stream;
    cudaEvent_t done[TICKETS];
    int64_t started;
} way[2];
static cudaEvent_t made; /* what a download follows */

static pac_err new_event(cudaEvent_t *e)
{
    return pac_gpu_error(cudaEventCreateWithFlags(e, cudaEventDisableTiming), PAC_EINTERNAL, "no event");
}

pac_err pac_gpu_copies_open(void)
{
    for (int i = 0; i < RING; i++) {
        PAC_TRY(pac_device_pinned_alloc(ring_bytes, &ring[i].block));
        PAC_TRY(new_event(&ring[i].copied));
    }
    PAC_TRY(new_event(&made));
    for (int d = 0; d < 2; d++) {
        PAC_TRY(pac_gpu_error(cudaStreamCreateWithFlags(&way[d].stream, cudaStreamNonBlocking), PAC_EINTERNAL, "no stream"));
        for (int i = 0; i < TICKETS; i++)
            PAC_TRY(new_event(&way[d].done[i]));
    }
    return PAC_OK;
}

static void drop_event(cudaEvent_t *e)
{
    if (*e != NULL)
        cudaEventDestroy(*e);
    *e = NULL;
}

void pac_gpu_copies_close(void)
{
    for (int i = 0; i < RING; i++) {
        drop_event(&ring[i].copied);
        pac_device_pinned_free(ring[i].block);
        ring[i].block = NULL;
    }
    for (int d = 0; d < 2; d++) {
        for (int i = 0; i < TICKETS; i++)
            drop_event(&way[d].done[i]);
        if (way[d].stream != NULL)
            cudaStreamDestroy(way[d].stream);
        way[d].stream = NULL;
        way[d].started = 0;
    }
    drop_event(&made);
    ring_next = 0;
}

static pac_err need_open(void)
{
    PAC_CHECK(pac_gpu.open, PAC_EINVAL, "no CUDA device is open");
    return PAC_OK;
}

pac_err pac_device_upload(void *device, const void *host, size_t bytes)
{
    PAC_TRY(need_open());
    for (size_t at = 0; at < bytes; at += ring_bytes) {
        size_t n = bytes - at < ring_bytes ? bytes - at : ring_bytes;
        int i = ring_next;
        ring_next = (i + 1) % RING;
        PAC_TRY(pac_gpu_error(cudaEventSynchronize(ring[i].copied), PAC_EINTERNAL, "a copy to the device failed"));
        memcpy(ring[i].block, (const char *)host + at, n);
        PAC_TRY(pac_gpu_error(cudaMemcpyAsync((char *)device + at, ring[i].block, n, cudaMemcpyHostToDevice, pac_gpu.compute),
                              PAC_EINTERNAL, "cannot copy to the device"));
        PAC_TRY(pac_gpu_error(cudaEventRecord(ring[i].copied, pac_gpu.compute), PAC_EINTERNAL, "no event"));
    }
    return PAC_OK;
}

pac_err pac_device_download(void *host, const void *device, size_t bytes)
{
    PAC_TRY(need_open());
    if (bytes > 0)
        PAC_TRY(pac_gpu_error(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, pac_gpu.compute), PAC_EINTERNAL,
                              "cannot copy from the device"));
    return pac_device_sync();
}

pac_err pac_device_move(void *to, const void *from, size_t bytes)
{
    PAC_TRY(need_open());
    if (bytes == 0)
        return PAC_OK;
    return pac_gpu_error(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, pac_gpu.compute), PAC_EINTERNAL,
                         "cannot copy on the device");
}

pac_err pac_device_fill(void *device, int byte, size_t bytes)
{
    PAC_TRY(need_open());
    if (bytes == 0)
        return PAC_OK;
    return pac_gpu_error(cudaMemsetAsync(device, byte, bytes, pac_gpu.compute), PAC_EINTERNAL, "cannot set device memory");
}

pac_err pac_device_sync(void)
{
    PAC_TRY(need_open());
    cudaError_t e = cudaStreamSynchronize(pac_gpu.compute);
    PAC_TRY(pac_gpu_take_fault());
    return pac_gpu_error(e, PAC_EINTERNAL, "a kernel failed");
}

/* ---- copies beside the ops ---- */

static pac_err start(int d, void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, int64_t *ticket)
{
    int64_t n = way[d].started;
    if (bytes > 0)
        PAC_TRY(pac_gpu_error(cudaMemcpyAsync(to, from, bytes, kind, way[d].stream), PAC_EINTERNAL, "cannot start a copy"));
    PAC_TRY(pac_gpu_error(cudaEventRecord(way[d].done[n % TICKETS], way[d].stream), PAC_EINTERNAL, "no event"));
    way[d].started = n + 1;
    *ticket = 2 * n + d;
    return PAC_OK;
}

/* Behind the ops queued so far, which make the rows. */
pac_err pac_device_download_start(void *pinned, const void *device, size_t bytes, int64_t *ticket)
{
    PAC_TRY(need_open());
    PAC_TRY(pac_gpu_error(cudaEventRecord(made, pac_gpu.compute), PAC_EINTERNAL, "no event"));
    PAC_TRY(pac_gpu_error(cudaStreamWaitEvent(way[DOWN].stream, made, 0), PAC_EINTERNAL, "cannot order a copy"));
    return start(DOWN, pinned, device, bytes, cudaMemcpyDeviceToHost, ticket);
}

pac_err pac_device_upload_start(void *device, const void *pinned, size_t bytes, int64_t *ticket)
{
    PAC_TRY(need_open());
    return start(UP, device, pinned, bytes, cudaMemcpyHostToDevice, ticket);
}

static pac_err event_of(int64_t ticket, cudaEvent_t *out)
{
    PAC_TRY(need_open());
    int64_t d = ticket % 2, n = ticket / 2;
    PAC_CHECK(ticket >= 0 && n < way[d].started, PAC_EINVAL, "no copy has the ticket %lld", (long long)ticket);
    *out = way[d].done[n % TICKETS];
    return PAC_OK;
}

pac_err pac_device_wait(int64_t ticket)
{
    cudaEvent_t e = NULL;
    PAC_TRY(event_of(ticket, &e));
    cudaError_t done = cudaEventSynchronize(e);
    PAC_TRY(pac_gpu_take_fault()); /* the rows may never have been computed */
    return pac_gpu_error(done, PAC_EINTERNAL, "a copy failed");
}

pac_err pac_device_follow(int64_t ticket)
{
    cudaEvent_t e = NULL;
    PAC_TRY(event_of(ticket, &e));
    return pac_gpu_error(cudaStreamWaitEvent(pac_gpu.compute, e, 0), PAC_EINTERNAL, "cannot wait for a copy");
}
