/* What the parts of the emulator know of each other: the queue (emu.cc), fibers (emu_fiber.cc), products (emu_blas.cc). */
#ifndef EMU_H
#define EMU_H

#include "cuda_runtime.h"

/* Put work at the end of a stream; it runs when somebody waits for it, with device memory open. */
void emu_queue(cudaStream_t s, std::function<void()> work);
/* Run one kernel, all its blocks one after the other. */
void emu_run(dim3 grid, dim3 block, size_t shared, const std::function<void()> &thread);
[[noreturn]] void emu_die(const char *why);

#endif
