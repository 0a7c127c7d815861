/* Numbers of bytes in words, for messages. */
#include "pac/bytes.h"

#include <math.h>
#include <stdio.h>

const char *pac_bytes_text(double bytes, char buf[static 32])
{
    static const char *const unit[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    int u = 0;
    while (bytes >= 1024 && u < 4) {
        bytes /= 1024;
        u++;
    }
    snprintf(buf, 32, u == 0 ? "%.0f %s" : "%.1f %s", bytes, unit[u]);
    return buf;
}

const char *pac_bytes_up(double bytes, char buf[static 32])
{
    if (bytes < 1024)
        snprintf(buf, 32, "%.0f bytes", ceil(bytes));
    else if (bytes < 1048576)
        snprintf(buf, 32, "%.1f KiB", ceil(bytes / 102.4) / 10);
    else
        snprintf(buf, 32, "%.1f MiB", ceil(bytes / 104857.6) / 10);
    return buf;
}

const char *pac_mib_text(double bytes, char buf[static 32])
{
    if (bytes < 1048576)
        return pac_bytes_text(bytes, buf);
    snprintf(buf, 32, "%.1f MiB", bytes / 1048576);
    return buf;
}
