/* Numbers in words, for messages. Those of bytes return buf. */
#ifndef PAC_BYTES_H
#define PAC_BYTES_H

/** "3.1 MiB", in the largest unit that is not above it. */
const char *pac_bytes_text(double bytes, char buf[static 32]);
/** Always in MiB, but for less than one. */
const char *pac_mib_text(double bytes, char buf[static 32]);
/** What is missing, rounded up to the last digit that is printed and at most in MiB, so that as much more is enough. */
const char *pac_bytes_up(double bytes, char buf[static 32]);

/** What follows a word of n things: "1 micro-batch%s", "2 micro-batch%s", with "es". */
#define PAC_PLURAL(n, ending) ((n) == 1 ? "" : (ending))

#endif
