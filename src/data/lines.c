/*
 * A text file as lines: the whole file is read once, lines are cut in place. What a person's editor or another system leaves
 * behind is taken (byte order mark, CRLF, missing end of the last line, blank lines at the end); what SentencePiece would
 * silently repair is refused (bytes that are not UTF-8).
 */
#include "lines.h"

#include "pac/file.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const size_t MAX_TEXT = (size_t)1 << 34; /* bytes of a data file at most: it is held in memory once */

pac_err pac_text_print(pac_text *t, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    pac_err err = n < 0 ? pac_fail(PAC_EDATA, "a text of more than 2 GiB") : PAC_OK;
    if (err == PAC_OK) {
        void *s = t->s;
        err = pac_mem_grow(PAC_MEM_DATA, &s, &t->capacity, (int64_t)n + 1, 1);
        t->s = s;
    }
    if (err == PAC_OK)
        vsnprintf(t->s, (size_t)n + 1, fmt, again);
    va_end(again);
    return err;
}

void pac_text_done(pac_text *t)
{
    pac_mem_free(t->s);
    *t = (pac_text){0};
}

pac_err pac_lines_open(const char *path, pac_lines *out)
{
    static const char bom[] = "\xef\xbb\xbf";
    char *data;
    size_t size;
    PAC_TRY(pac_file_load(path, MAX_TEXT, &data, &size));
    int64_t bytes = (int64_t)size;
    while (bytes > 0 && (data[bytes - 1] == '\n' || data[bytes - 1] == '\r'))
        bytes--;
    data[bytes] = '\0';
    int64_t start = bytes >= 3 && memcmp(data, bom, 3) == 0 ? 3 : 0;
    if (start == bytes) {
        pac_mem_free(data);
        return pac_fail(PAC_EDATA, "%s: the file is empty", path);
    }
    *out = (pac_lines){.path = path, .data = data, .bytes = bytes, .pos = start};
    return PAC_OK;
}

void pac_lines_close(pac_lines *l)
{
    pac_mem_free(l->data);
    *l = (pac_lines){0};
}

pac_err pac_lines_fail(const pac_lines *l, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return pac_fail(PAC_EDATA, "%s:%lld: %s", l->path, (long long)l->line, text);
}

/* Length of the one sequence at s (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF), 0 if there is none. */
static int64_t utf8_sequence(const unsigned char *s, int64_t n)
{
    if (s[0] < 0x80)
        return 1;
    int64_t len = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || len > n)
        return 0;
    for (int64_t i = 1; i < len; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool outside = (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf4 && s[1] > 0x8f);
    return overlong || outside ? 0 : len;
}

/* Bytes of the sequence that breaks off at s: the longest beginning of a valid one, at least 1. */
static int64_t utf8_broken(const unsigned char *s, int64_t n)
{
    unsigned char whole[4] = {s[0], 0x80, 0x80, 0x80};
    if (s[0] == 0xe0 || s[0] == 0xf0)
        whole[1] = 0xbf; /* the second byte is not free after these */
    int64_t good = 1;
    for (int64_t i = 1; i < 4 && i < n; i++, good++) {
        whole[i] = s[i];
        if (utf8_sequence(whole, 4) <= i)
            break;
    }
    return good;
}

int64_t pac_utf8_valid(const char *s, int64_t n)
{
    int64_t i = 0;
    while (i < n) {
        int64_t len = utf8_sequence((const unsigned char *)s + i, n - i);
        if (len == 0)
            return i;
        i += len;
    }
    return n;
}

pac_err pac_lines_next(pac_lines *l, char **line)
{
    if (l->pos >= l->bytes) {
        *line = NULL;
        return PAC_OK;
    }
    char *s = l->data + l->pos;
    char *end = memchr(s, '\n', (size_t)(l->bytes - l->pos));
    int64_t n = end != NULL ? end - s : l->bytes - l->pos;
    l->pos += n + 1;
    l->line++;
    if (n > 0 && s[n - 1] == '\r')
        n--;
    int64_t valid = pac_utf8_valid(s, n);
    if (valid < n)
        return pac_lines_fail(l, "byte %lld (0x%02x) is not UTF-8; convert the file to UTF-8", (long long)valid + 1,
                              (unsigned)(unsigned char)s[valid]);
    const char *zero = memchr(s, '\0', (size_t)n);
    if (zero != NULL)
        return pac_lines_fail(l, "byte %lld is zero; text is expected", (long long)(zero - s) + 1);
    s[n] = '\0';
    *line = s;
    return PAC_OK;
}

pac_err pac_utf8_repair(const char *s, int64_t n, char **out)
{
    static const char replacement[] = "\xef\xbf\xbd";
    void *block;
    PAC_TRY(pac_mem_array(PAC_MEM_DATA, n + 1, 3, &block));
    char *to = block;
    for (int64_t i = 0; i < n;) {
        int64_t length = utf8_sequence((const unsigned char *)s + i, n - i);
        bool good = length > 0 && s[i] != '\0';
        memcpy(to, good ? s + i : replacement, good ? (size_t)length : 3);
        to += good ? length : 3;
        i += good ? length : utf8_broken((const unsigned char *)s + i, n - i);
    }
    *to = '\0';
    *out = block;
    return PAC_OK;
}
