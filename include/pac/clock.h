/* Time: one monotonic clock for all measurements, and the processor time of this process. */
#ifndef PAC_CLOCK_H
#define PAC_CLOCK_H

/** Seconds on a monotonic clock with an arbitrary start. */
double pac_now(void);

/** Seconds of processor time that this process has had, all its threads together. */
double pac_cpu_seconds(void);

/** Sleep for `seconds` >= 0 (used by polling waits so that an oversubscribed core is given away). */
void pac_sleep(double seconds);

#endif
