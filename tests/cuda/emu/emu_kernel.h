/*
 * What a kernel sees: built-in variables, barriers, warp shuffles, vector types. A thread of a block is a fiber; those of a
 * block take turns, each running to its next barrier or shuffle, so one static object is the shared memory of "the" block.
 */
#ifndef EMU_KERNEL_H
#define EMU_KERNEL_H

#include <cmath>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};
struct __align__(16) float4
{
    float x, y, z, w;
};
struct __align__(8) float2
{
    float x, y;
};
struct __align__(8) ushort4
{
    unsigned short x, y, z, w;
};
static inline float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}

extern dim3 threadIdx, blockIdx, blockDim, gridDim;

/* Queue a kernel whose threads each call `thread`. */
void emu_launch(const char *name, dim3 grid, dim3 block, size_t shared, cudaStream_t stream, std::function<void()> thread);
/* End the program unless p lies in device or pinned memory (or is NULL). */
void emu_check_pointer(const void *p, const char *what);
/* The same for each aligned word of an object that is the address of mapped memory. */
void emu_check_words(const void *object, size_t bytes, const char *what);
float *emu_dynamic_shared();
/* A place of the block's shared memory, with garbage in it when a block begins. */
size_t emu_shared_place(size_t bytes);
void *emu_shared_at(size_t place);

/* Pointers among the arguments must be the device's: bare ones, and those in a struct with the arrays `in` and `out`. */
template <class T> static inline auto emu_check(const T &x, const char *kernel, int) -> decltype(x.in[0], x.out[0], void())
{
    for (auto p : x.in)
        emu_check_pointer(p, kernel);
    for (auto p : x.out)
        emu_check_pointer(p, kernel);
}
template <class T> static inline void emu_check(T *p, const char *kernel, int)
{
    emu_check_pointer(p, kernel);
}
/* Of other structs every word that could be one: a functor holds pointers anywhere. */
template <class T> static inline void emu_check(const T &x, const char *kernel, long)
{
    emu_check_words(&x, sizeof x, kernel);
}

/* The arguments are copied now, the kernel runs later. */
template <class... P, class... A>
static inline void emu_call(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                            A... a)
{
    int each[] = {0, (emu_check(a, name, 0), 0)...};
    (void)each;
    emu_launch(name, grid, block, shared, stream, [=] { kernel(a...); });
}

extern "C" void pac_gpu_launched(const char *kernel);
#define PAC_LAUNCH(kernel, grid, block, shared, stream, ...)                                                                   \
    do {                                                                                                                       \
        emu_call(#kernel, kernel, grid, block, shared, stream, __VA_ARGS__);                                                   \
        pac_gpu_launched(#kernel);                                                                                             \
    } while (0)
#define PAC_SHARED_ARRAY(type, name, sizes)                                                                                    \
    typedef type name##_type sizes;                                                                                            \
    static const size_t name##_place = emu_shared_place(sizeof(name##_type));                                                  \
    name##_type &name = *(name##_type *)emu_shared_at(name##_place)
#define PAC_SHARED(name) float *name = emu_dynamic_shared()
void __syncthreads();
void __syncwarp(unsigned mask = 0xffffffffu);
/* Hand `bytes` at `mine` to the warp and read those of another lane. */
void emu_exchange(unsigned mask, const void *mine, void *theirs, size_t bytes, int from_lane);
int emu_lane();

template <class T> static inline T emu_shuffle(unsigned mask, T x, int from)
{
    T got;
    emu_exchange(mask, &x, &got, sizeof x, from);
    return got;
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T x, int bits, int = 32)
{
    return emu_shuffle(mask, x, emu_lane() ^ bits);
}
template <class T> static inline T __shfl_sync(unsigned mask, T x, int from, int = 32)
{
    return emu_shuffle(mask, x, from);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T x, int by, int = 32)
{
    int lane = emu_lane();
    return emu_shuffle(mask, x, lane + by < 32 ? lane + by : lane);
}

static inline unsigned __float_as_uint(float f)
{
    unsigned u;
    memcpy(&u, &f, sizeof u);
    return u;
}
static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
#endif
