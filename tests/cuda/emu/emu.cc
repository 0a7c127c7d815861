/*
 * Emulated device: memory, streams, events. Device memory is one reserved range without any right of access; it is opened while
 * queued work runs. Streams hold closures; waiting for a stream or event runs them in order, other streams' work only as far as
 * an event demands, so work that is nowhere waited for has not happened when the host looks.
 */
#include "emu.h"

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <mutex>
#include <sys/mman.h>
#include <unistd.h>

typedef std::function<void()> task;

struct emu_stream {
    std::deque<task> work;
    uint64_t queued, done;
};
struct emu_event {
    cudaStream_t stream;
    uint64_t position;
};

static std::recursive_mutex lock;
static int depth; /* > 0 while work runs */

void emu_die(const char *why)
{
    fprintf(stderr, "cuda-emu: %s\n", why);
    abort();
}

/* ---- memory ---- */

static const size_t reserved = (size_t)8 << 30, grain = 256;
static char *base;
static size_t top, in_use;                     /* bytes of the range ever given out; live bytes */
static std::map<size_t, size_t> blocks, holes; /* offset -> bytes */
static std::map<size_t, size_t> asked;         /* offset -> bytes asked for; what is behind them stays as it was */
static std::map<const char *, size_t> pinned;

static void protect(bool open)
{
    if (top > 0 && mprotect(base, top, open ? PROT_READ | PROT_WRITE : PROT_NONE) != 0)
        emu_die("mprotect failed");
}

static void enter()
{
    if (depth++ == 0)
        protect(true);
}

static void leave()
{
    if (--depth == 0)
        protect(false);
}

static bool on_device(const void *p)
{
    return base != nullptr && (const char *)p >= base && (const char *)p < base + top;
}

static bool is_pinned(const void *p)
{
    auto after = pinned.upper_bound((const char *)p);
    if (after == pinned.begin())
        return false;
    --after;
    return (const char *)p < after->first + after->second;
}

void emu_check_pointer(const void *p, const char *what)
{
    if (p == nullptr || on_device(p) || is_pinned(p))
        return;
    fprintf(stderr, "cuda-emu: %s was given %p, which is memory of the host\n", what, p);
    abort();
}

/* Does this lie in memory that is the host's? A small integer beside four bytes of padding may look so. */
static bool is_hosts(uintptr_t word)
{
    unsigned char state;
    const uintptr_t page = 4096, lowest = (uintptr_t)1 << 32, highest = (uintptr_t)1 << 47;
    const void *p = (const void *)word;
    if (word < lowest || word >= highest || word % 4 != 0 || (uint32_t)word < 65536 || on_device(p) || is_pinned(p))
        return false;
    return mincore((void *)(word / page * page), 1, &state) == 0;
}

void emu_check_words(const void *object, size_t bytes, const char *what)
{
    for (size_t at = 0; at + sizeof(uintptr_t) <= bytes; at += sizeof(uintptr_t)) {
        uintptr_t word;
        memcpy(&word, (const char *)object + at, sizeof word);
        if (is_hosts(word))
            emu_check_pointer((const void *)word, what);
    }
}

static int64_t waits; /* how often the host waited for work that was not done */
static int64_t idle;  /* how often nothing was left to do for the device when it went on */

static void drain(cudaStream_t s, uint64_t position)
{
    enter();
    while (s->done < position) {
        task next = std::move(s->work.front());
        s->work.pop_front();
        s->done++;
        next();
    }
    leave();
}

static struct emu_stream legacy;
static std::map<cudaStream_t, int> streams;

static void tell_idle()
{
    fprintf(stderr, "cuda-emu: %lld waits, %lld of them until the device had nothing left to do\n", (long long)waits,
            (long long)idle);
}

/* At every second wait the other streams are as far as they may be, else no further than they must: so what a copy beside the
 * ops reads too late, or writes too early, shows. */
static void drain_others(cudaStream_t s)
{
    if (s != &legacy)
        drain(&legacy, legacy.queued);
    for (auto &other : streams)
        if (other.first != s)
            drain(other.first, other.first->queued);
}

/* The host waits here: s until `position`. PAC_EMU_REPORT=1: the counts are told at the end. */
static void host_waits(cudaStream_t s, uint64_t position, bool event)
{
    static int64_t of_kind[2];
    static bool tells = emu_switch("PAC_EMU_REPORT") && atexit(tell_idle) == 0;
    (void)tells;
    if (s->done >= position)
        return;
    waits++;
    if (!tells && of_kind[event]++ % 2 == 0)
        drain_others(s);
    drain(s, position);
    bool left = !legacy.work.empty();
    for (auto &other : streams)
        left = left || !other.first->work.empty();
    idle += !left;
}

static void drain_all()
{
    drain(&legacy, legacy.queued);
    for (auto &s : streams)
        drain(s.first, s.first->queued);
}

void emu_queue(cudaStream_t s, task work)
{
    std::lock_guard<std::recursive_mutex> hold(lock);
    s = s != nullptr ? s : &legacy;
    s->work.push_back(std::move(work));
    s->queued++;
    if (s->work.size() > 4096 && depth == 0)
        drain(s, s->queued);
}

extern "C" {

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    std::lock_guard<std::recursive_mutex> hold(lock);
    if (base == nullptr) {
        void *range = mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (range == MAP_FAILED)
            emu_die("no address space");
        base = (char *)range;
    }
    size_t size = (bytes + 2 * grain - 1) / grain * grain, at = top;
    for (auto &hole : holes)
        if (hole.second >= size) {
            at = hole.first;
            break;
        }
    if (at + size > reserved)
        return cudaErrorMemoryAllocation;
    if (at < top) {
        size_t rest = holes[at] - size;
        holes.erase(at);
        if (rest > 0)
            holes[at + size] = rest;
    } else {
        top += size;
    }
    blocks[at] = size;
    asked[at] = bytes;
    in_use += size;
    enter();
    memset(base + at, 0xff, size); /* NaN */
    leave();
    *p = base + at;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    std::lock_guard<std::recursive_mutex> hold(lock);
    if (p == nullptr)
        return cudaSuccess;
    size_t at = (size_t)((char *)p - base);
    if (!on_device(p) || blocks.count(at) == 0)
        emu_die("cudaFree of what cudaMalloc did not give");
    waits++;
    drain_all();
    size_t size = blocks[at];
    enter();
    for (size_t i = asked[at]; i < size; i++)
        if (base[at + i] != (char)0xff)
            emu_die("something was written behind a block of device memory");
    leave();
    blocks.erase(at);
    asked.erase(at);
    in_use -= size;
    size_t page = 4096, low = (at + page - 1) / page * page, high = (at + size) / page * page;
    if (low < high)
        madvise(base + low, high - low, MADV_DONTNEED);
    auto next = holes.find(at + size);
    if (next != holes.end()) {
        size += next->second;
        holes.erase(next);
    }
    auto before = holes.lower_bound(at);
    if (before != holes.begin() && (--before)->first + before->second == at)
        before->second += size;
    else
        holes[at] = size;
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned)
{
    std::lock_guard<std::recursive_mutex> hold(lock);
    *p = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (*p == nullptr)
        return cudaErrorMemoryAllocation;
    pinned[(char *)*p] = bytes;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p)
{
    std::lock_guard<std::recursive_mutex> hold(lock);
    waits++;
    drain_all();
    pinned.erase((char *)p);
    free(p);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    std::lock_guard<std::recursive_mutex> hold(lock);
    *total = reserved;
    *available = reserved - in_use;
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t s)
{
    std::lock_guard<std::recursive_mutex> hold(lock);
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (bytes > 0 && (on_device(to) != to_device || on_device(from) != from_device))
        emu_die("a copy between other memories than its kind says");
    emu_queue(s, [=] { memcpy(to, from, bytes); });
    if ((!to_device && !is_pinned(to)) || (!from_device && !is_pinned(from)))
        return cudaStreamSynchronize(s);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int byte, size_t bytes, cudaStream_t s)
{
    emu_check_pointer(p, "cudaMemsetAsync");
    emu_queue(s, [=] { memset(p, byte, bytes); });
    return cudaSuccess;
}

/* ---- streams and events ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    std::lock_guard<std::recursive_mutex> hold(lock);
    *s = new emu_stream();
    streams[*s] = 1;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    std::lock_guard<std::recursive_mutex> hold(lock);
    drain(s, s->queued);
    streams.erase(s);
    delete s;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    std::lock_guard<std::recursive_mutex> hold(lock);
    s = s != nullptr ? s : &legacy;
    host_waits(s, s->queued, false);
    return cudaSuccess;
}

int64_t emu_blocks(void)
{
    return (int64_t)(blocks.size() + pinned.size());
}

int64_t emu_waited(void)
{
    return waits;
}

cudaError_t cudaDeviceSynchronize(void)
{
    std::lock_guard<std::recursive_mutex> hold(lock);
    waits++;
    drain_all();
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned)
{
    *e = new emu_event();
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *e)
{
    return cudaEventCreateWithFlags(e, 0);
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    delete e;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    std::lock_guard<std::recursive_mutex> hold(lock);
    s = s != nullptr ? s : &legacy;
    *e = emu_event{s, s->queued};
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    std::lock_guard<std::recursive_mutex> hold(lock);
    if (e->stream != nullptr)
        host_waits(e->stream, e->position, true);
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t, cudaEvent_t)
{
    *ms = 1;
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
    std::lock_guard<std::recursive_mutex> hold(lock);
    emu_event at = *e;
    if (at.stream != nullptr)
        emu_queue(s, [at] { drain(at.stream, at.position); });
    return cudaSuccess;
}

/* ---- the device ---- */

int emu_switch(const char *name)
{
    const char *value = getenv(name);
    return value != nullptr && value[0] == '1';
}

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int)
{
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int)
{
    const pid_t own = emu_switch("PAC_EMU_OWN") ? getpid() : 0;
    *p = cudaDeviceProp();
    memcpy(p->uuid.bytes, &own, sizeof own);
    snprintf(p->name, sizeof p->name, "emulated device");
    p->totalGlobalMem = reserved;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr which, int)
{
    const bool shared = which == cudaDevAttrIntegrated || which == cudaDevAttrCanMapHostMemory;
    *value = which == cudaDevAttrMultiProcessorCount                ? 4
             : which == cudaDevAttrComputeCapabilityMajor           ? 9
             : which == cudaDevAttrMaxSharedMemoryPerMultiprocessor ? (emu_switch("PAC_EMU_SMALL") ? 64 : 164) * 1024
             : shared                                               ? emu_switch("PAC_EMU_INTEGRATED")
                                                                    : 0;
    return cudaSuccess;
}

static cudaError_t last;

cudaError_t cudaGetLastError(void)
{
    cudaError_t e = last;
    last = cudaSuccess;
    return e;
}

static bool refuses;

void emu_refuse_launch(void)
{
    refuses = true;
}

static bool refused(const char *name)
{
    const char *planted = getenv("PAC_EMU_REFUSE");
    bool now = refuses || (planted != nullptr && strcmp(planted, name) == 0);
    last = now ? cudaErrorInvalidValue : last;
    refuses = false;
    return now;
}

const char *cudaGetErrorString(cudaError_t e)
{
    return e == cudaSuccess ? "no error" : e == cudaErrorMemoryAllocation ? "out of memory" : "error";
}
}

static int64_t launched;

int64_t emu_launched(void)
{
    return launched;
}

void emu_launch(const char *name, dim3 grid, dim3 block, size_t shared, cudaStream_t stream, task thread)
{
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535 || block.x * block.y * block.z > 1024 ||
        shared > 48 * 1024)
        emu_die("a launch that no device takes");
    launched++;
    if (refused(name))
        return;
    emu_queue(stream, [=] { emu_run(grid, block, shared, thread); });
}
