/* Time: one monotonic clock for all measurements. */
#ifndef PAC_CLOCK_H
#define PAC_CLOCK_H

/** Seconds on a monotonic clock with an arbitrary start. */
double pac_now(void);

/** Sleep for `seconds` >= 0 (used by polling waits so that an oversubscribed core is given away). */
void pac_sleep(double seconds);

#endif
