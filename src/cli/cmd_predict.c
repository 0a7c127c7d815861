/* pac predict: lines from standard input or a file of JSON lines, an answer each. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "pac/parallel.h"

static bool next_line(void *user, char **line)
{
    FILE *f = user;
    size_t capacity = 0;
    char *text = NULL;
    for (;;) {
        ssize_t n = getline(&text, &capacity, f);
        if (n < 0) {
            free(text);
            return false;
        }
        text[strcspn(text, "\r\n")] = '\0';
        if (text[strspn(text, " \t")] != '\0') /* empty lines are skipped */
            break;
    }
    *line = text;
    return true;
}

static void answer(void *user, const char *line)
{
    (void)user;
    printf("%s\n", line);
    fflush(stdout);
}

static pac_err open_input(const pac_args *a, FILE **f)
{
    *f = stdin;
    if (pac_world_rank() != 0 || a->input == NULL)
        return PAC_OK;
    *f = fopen(a->input, "r");
    PAC_CHECK(*f != NULL, PAC_EIO, "%s: %s", a->input, strerror(errno));
    return PAC_OK;
}

pac_err cmd_predict(const pac_args *a)
{
    FILE *f = NULL;
    pac_observer watch = print_observer();
    if (a->model == NULL)
        return pac_agree(pac_world(), pac_fail(PAC_EUSAGE, "predict: --model DIR is needed"));
    PAC_TRY(pac_agree(pac_world(), open_input(a, &f)));
    pac_predict_opts o = {
        .model_dir = a->model,
        .adapters_dir = a->adapters,
        .backend = a->backend,
        .max_new = a->max_new,
        .logits_path = a->logits,
        .json_lines = a->input != NULL || a->json,
        .read_line = next_line,
        .answer = answer,
        .user = f,
    };
    pac_err err = pac_predict(&o, &watch);
    if (f != stdin)
        fclose(f);
    return err;
}
