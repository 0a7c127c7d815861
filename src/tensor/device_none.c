/* Where no accelerator backend is built: every function of pac/device.h says so. */
#include "pac/device.h"

static const char why[] = "this program was built without CUDA (nvcc was not found, or -Dcuda=disabled)";

static pac_err none(void)
{
    return pac_fail(PAC_ENOTBUILT, "%s; use backend auto, cpu or ref", why);
}

int64_t pac_device_count(void)
{
    return 0;
}

const char *pac_device_absence(void)
{
    return why;
}

pac_err pac_device_open(int64_t index)
{
    (void)index;
    return none();
}

void pac_device_close(void)
{
}

bool pac_device_is_open(void)
{
    return false;
}

const pac_backend *pac_device_backend(void)
{
    return NULL;
}

pac_err pac_device_name(int64_t index, char *buf, size_t bytes)
{
    (void)index, (void)buf, (void)bytes;
    return none();
}

pac_err pac_device_query(pac_device_info *out)
{
    (void)out;
    return none();
}

pac_err pac_device_memory(int64_t *total, int64_t *available)
{
    (void)total, (void)available;
    return none();
}

bool pac_device_zero_copy(void)
{
    return false;
}

bool pac_device_integrated(void)
{
    return false;
}

pac_err pac_device_alloc(size_t bytes, void **out)
{
    (void)bytes, (void)out;
    return none();
}

void pac_device_free(void *p)
{
    (void)p;
}

pac_err pac_device_upload(void *device, const void *host, size_t bytes)
{
    (void)device, (void)host, (void)bytes;
    return none();
}

pac_err pac_device_download(void *host, const void *device, size_t bytes)
{
    (void)host, (void)device, (void)bytes;
    return none();
}

pac_err pac_device_move(void *to, const void *from, size_t bytes)
{
    (void)to, (void)from, (void)bytes;
    return none();
}

pac_err pac_device_fill(void *device, int byte, size_t bytes)
{
    (void)device, (void)byte, (void)bytes;
    return none();
}

pac_err pac_device_sync(void)
{
    return none();
}

pac_err pac_device_pinned_alloc(size_t bytes, void **out)
{
    (void)bytes, (void)out;
    return none();
}

void pac_device_pinned_free(void *p)
{
    (void)p;
}

pac_err pac_device_download_start(void *pinned, const void *device, size_t bytes, int64_t *ticket)
{
    (void)pinned, (void)device, (void)bytes, (void)ticket;
    return none();
}

pac_err pac_device_upload_start(void *device, const void *pinned, size_t bytes, int64_t *ticket)
{
    (void)device, (void)pinned, (void)bytes, (void)ticket;
    return none();
}

pac_err pac_device_wait(int64_t ticket)
{
    (void)ticket;
    return none();
}

pac_err pac_device_follow(int64_t ticket)
{
    (void)ticket;
    return none();
}

pac_precision pac_device_precision(pac_precision wanted)
{
    (void)wanted;
    return PAC_PREC_F32;
}

void pac_device_constant(const float *x, int64_t n)
{
    (void)x, (void)n;
}

void pac_device_constant_release(const float *x)
{
    (void)x;
}
