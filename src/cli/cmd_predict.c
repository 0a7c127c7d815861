/* pac predict: lines from standard input or a file of JSON lines, an answer each. */
#include "cli.h"
#include "pac/parallel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pac_err next_line(void *user, char **line, size_t *bytes)
{
    size_t capacity = 0;
    char *text = NULL;
    ssize_t n = getline(&text, &capacity, (FILE *)user);
    if (n < 0) {
        int fault = errno;
        free(text);
        PAC_CHECK(feof((FILE *)user), PAC_EIO, "standard input: cannot read: %s", strerror(fault));
        return PAC_OK;
    }
    if (n > 0 && text[n - 1] == '\n')
        text[--n] = '\0';
    if (n > 0 && text[n - 1] == '\r')
        text[--n] = '\0';
    *line = text;
    *bytes = (size_t)n;
    return PAC_OK;
}

static pac_err answer(void *user, const char *line)
{
    (void)user;
    printf("%s\n", line);
    return print_flush();
}

pac_err cmd_predict(const pac_args *a)
{
    pac_observer watch = print_observer();
    if (a->model == NULL)
        return pac_agree(pac_world(), pac_fail(PAC_EUSAGE, "predict: --model DIR is needed"));
    PAC_TRY(pac_agree(pac_world(), pac_world_rank() == 0 ? keep_inputs(a, NULL) : PAC_OK));
    pac_predict_opts o = {
        .model_dir = a->model,
        .adapters_dir = a->adapters,
        .backend = a->backend,
        .max_new = a->max_new,
        .beams = a->beams,
        .logits_path = a->logits,
        .input_path = a->input,
        .json_lines = a->input != NULL || a->json,
        .read_line = next_line,
        .answer = answer,
        .user = stdin,
    };
    return pac_predict(&o, &watch);
}
