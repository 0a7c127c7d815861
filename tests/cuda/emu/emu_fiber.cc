/*
 * Emulated blocks: every thread of a block is a fiber with a stack of its own. A fiber runs to its next barrier or shuffle,
 * then the next one does; when all have arrived they go on. Every other launch goes through threads and blocks backwards, so
 * that a kernel that forgot a barrier gives other results the second time.
 */
#include "emu.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <sys/mman.h>
#if !defined(__x86_64__) || defined(EMU_UCONTEXT)
#define EMU_UCONTEXT
#include <ucontext.h>
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace
{

enum { MAX_THREADS = 1024, STACK = 64 * 1024, WARP = 32, WORD = 16 };
enum state { READY, AT_BARRIER, AT_WARP, DONE };

struct fiber {
#ifdef EMU_UCONTEXT
    ucontext_t context;
#else
    void *sp;
#endif
    state at;
    dim3 index;
    unsigned phase; /* which half of the warp's exchange buffer is next */
};

struct warp {
    int arrived;
    char word[2][WARP][WORD];
};

fiber fibers[MAX_THREADS], scheduler;
warp warps[MAX_THREADS / WARP];
char *stacks;
int threads, current, arrived, finished;
long launches;
const std::function<void()> *body;
alignas(16) float dynamic_shared[48 * 1024 / sizeof(float)];
alignas(16) char static_shared[512 * 1024]; /* those of all kernels */
size_t static_used;

#ifdef EMU_UCONTEXT
void jump(fiber *from, fiber *to)
{
    swapcontext(&from->context, &to->context);
}
#else
extern "C" void emu_jump(void **save, void *to);
__asm__(".text\n"
        ".globl emu_jump\n"
        ".type emu_jump, @function\n"
        "emu_jump:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n"
        ".size emu_jump, .-emu_jump\n");

void jump(fiber *from, fiber *to)
{
    emu_jump(&from->sp, to->sp);
}
#endif

void yield_as(state at)
{
    fiber *self = &fibers[current];
    self->at = at;
    jump(self, &scheduler);
}

void thread_main()
{
    (*body)();
    finished++;
    yield_as(DONE);
    emu_die("a finished thread went on");
}

void prepare(int i)
{
    char *end = stacks + (size_t)(i + 1) * STACK;
#ifdef EMU_UCONTEXT
    getcontext(&fibers[i].context);
    fibers[i].context.uc_stack.ss_sp = end - STACK;
    fibers[i].context.uc_stack.ss_size = STACK;
    makecontext(&fibers[i].context, thread_main, 0);
#else
    void **sp = (void **)end - 2; /* the address to return to, at a multiple of 16; above it nothing */
    *sp = (void *)thread_main;
    for (int r = 0; r < 6; r++)
        *--sp = nullptr;
    fibers[i].sp = sp;
#endif
    fibers[i].at = READY;
    fibers[i].phase = 0;
}

void run_block(bool backwards)
{
    for (int i = 0; i < threads; i++)
        prepare(i);
    for (int w = 0; w * WARP < threads; w++)
        warps[w].arrived = 0;
    memset((void *)dynamic_shared, 0xff, sizeof dynamic_shared);
    memset(static_shared, 0xff, static_used);
    arrived = finished = 0;
    while (finished < threads) {
        bool moved = false;
        for (int j = 0; j < threads; j++) {
            current = backwards ? threads - 1 - j : j;
            if (fibers[current].at != READY)
                continue;
            moved = true;
            threadIdx = fibers[current].index;
            jump(&scheduler, &fibers[current]);
        }
        if (!moved)
            emu_die("threads of a block wait at a barrier or shuffle that others have left out");
    }
}

} // namespace

void emu_run(dim3 grid, dim3 block, size_t shared, const std::function<void()> &thread)
{
    if (stacks == nullptr)
        stacks = (char *)mmap(nullptr, (size_t)MAX_THREADS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stacks == MAP_FAILED || shared > sizeof dynamic_shared)
        emu_die("no memory for stacks");
    bool backwards = launches++ % 2;
    gridDim = grid;
    blockDim = block;
    body = &thread;
    threads = (int)(block.x * block.y * block.z);
    for (int i = 0; i < threads; i++)
        fibers[i].index = dim3((unsigned)i % block.x, (unsigned)i / block.x % block.y, (unsigned)i / block.x / block.y);
    uint64_t count = (uint64_t)grid.x * grid.y * grid.z;
    for (uint64_t j = 0; j < count; j++) {
        uint64_t b = backwards ? count - 1 - j : j;
        blockIdx = dim3((unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y), (unsigned)(b / grid.x / grid.y));
        run_block(backwards);
    }
}

size_t emu_shared_place(size_t bytes)
{
    size_t place = static_used;
    static_used += (bytes + 15) / 16 * 16;
    if (static_used > sizeof static_shared)
        emu_die("more arrays of shared memory than the emulator has room for");
    return place;
}

void *emu_shared_at(size_t place)
{
    return static_shared + place;
}

float *emu_dynamic_shared()
{
    return dynamic_shared;
}

void __syncthreads()
{
    if (++arrived < threads) {
        yield_as(AT_BARRIER);
        return;
    }
    arrived = 0;
    for (int i = 0; i < threads; i++)
        if (fibers[i].at == AT_BARRIER)
            fibers[i].at = READY;
}

int emu_lane()
{
    return current % WARP;
}

static void meet_warp(unsigned mask)
{
    int w = current / WARP;
    if (mask != 0xffffffffu || threads % WARP != 0)
        emu_die("a shuffle of less than a warp");
    if (++warps[w].arrived < WARP) {
        yield_as(AT_WARP);
        return;
    }
    warps[w].arrived = 0;
    for (int i = w * WARP; i < (w + 1) * WARP; i++)
        if (fibers[i].at == AT_WARP)
            fibers[i].at = READY;
}

void emu_exchange(unsigned mask, const void *mine, void *theirs, size_t bytes, int from_lane)
{
    fiber *self = &fibers[current];
    warp *w = &warps[current / WARP];
    unsigned half = self->phase++ % 2;
    if (bytes > WORD || from_lane < 0 || from_lane >= WARP)
        emu_die("a shuffle from no lane");
    memcpy(w->word[half][current % WARP], mine, bytes);
    meet_warp(mask);
    memcpy(theirs, w->word[half][from_lane], bytes);
}

void __syncwarp(unsigned mask)
{
    meet_warp(mask);
}
