/*
 * The output directory. A run that is refused (a wrong plan, too little memory or disk) leaves what an earlier run wrote there
 * as it was; only when training is about to begin does the directory change hands.
 */
#include "output.h"
#include "pac/file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LONGEST = PAC_PATH + 32 };

static void output_path(const pac_config *c, const char *name, char path[LONGEST])
{
    snprintf(path, LONGEST, "%s/%s", c->output, name);
}

pac_err output_check(const pac_config *c)
{
    char path[LONGEST];
    PAC_TRY(pac_file_make_dirs(c->output));
    output_path(c, "adapters", path);
    PAC_TRY(pac_file_make_dirs(path));
    PAC_CHECK(access(path, W_OK) == 0, PAC_EIO, "%s: cannot write: %s (choose another `output:`)", path, strerror(errno));
    return PAC_OK;
}

static pac_err write_configuration(const pac_config *c)
{
    char path[LONGEST], *text = NULL;
    output_path(c, "run.yaml", path);
    PAC_TRY(pac_config_text(c, &text));
    pac_err err = pac_file_replace_text(path, text);
    pac_mem_free(text);
    return err;
}

pac_err output_begin(const pac_config *c, const pac_plan *plan, const pac_profile *made)
{
    char path[LONGEST];
    output_path(c, "result.json", path);
    PAC_CHECK(unlink(path) == 0 || errno == ENOENT, PAC_EIO, "%s: cannot replace: %s", path, strerror(errno));
    PAC_TRY(write_configuration(c));
    output_path(c, "plan.yaml", path);
    PAC_TRY(pac_plan_write(plan, path));
    output_path(c, "profile.yaml", path);
    return made != NULL ? pac_profile_write(made, path) : PAC_OK;
}

pac_err output_result(const pac_config *c, const char *json)
{
    char path[LONGEST];
    output_path(c, "result.json", path);
    return json != NULL ? pac_file_replace_text(path, json) : PAC_OK;
}
