/*
 * Log: libraries report through a sink that src/cli installs; without a sink nothing is written.
 */
#ifndef PAC_LOG_H
#define PAC_LOG_H

typedef enum pac_log_level { PAC_LOG_ERROR, PAC_LOG_WARN, PAC_LOG_INFO, PAC_LOG_DEBUG } pac_log_level;

typedef void (*pac_log_sink)(void *user, pac_log_level level, const char *line);

/** Install the sink (NULL: silence). Not thread-safe: call once at start. */
void pac_log_set_sink(pac_log_sink sink, void *user, pac_log_level max_level);

/** Format one line (no newline) and hand it to the sink. */
void pac_log(pac_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
