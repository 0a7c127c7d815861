/*
 * Which MPI this is and which transports it uses, for --version and info.
 *
 * Open MPI publishes the parameters of its opened components as MPI_T control variables named framework_component_parameter;
 * those of components that were not chosen become invalid. So what is left after MPI_Init is what is in use.
 */
#include "internal.h"

#if defined(OPEN_MPI)
#include <mpi-ext.h>
#endif
#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 256 };

/* "btl_tcp_links" -> "tcp" if the framework is `framework` and the component is a proper one. */
static bool component_of(const char *name, const char *framework, char *out, size_t bytes)
{
    size_t length = strlen(framework);
    if (strncmp(name, framework, length) != 0 || name[length] != '_')
        return false;
    const char *start = name + length + 1;
    size_t n = strcspn(start, "_");
    if (start[n] == '\0' || n == 0 || n >= bytes || strncmp(start, "base_", 5) == 0)
        return false;
    memcpy(out, start, n);
    out[n] = '\0';
    return true;
}

static bool listed(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = strstr(list, word); at != NULL; at = strstr(at + 1, word))
        if ((at == list || at[-1] == ' ') && (at[length] == '\0' || at[length] == ' '))
            return true;
    return false;
}

/* Components of a framework in use, separated by blanks. */
static void list_components(const char *framework, char *list, size_t bytes)
{
    int count;
    list[0] = '\0';
    if (MPI_T_cvar_get_num(&count) != MPI_SUCCESS)
        return;
    for (int i = 0; i < count; i++) {
        char name[NAME_BYTES], component[64];
        int length = sizeof name, verbosity, binding, scope, text = 0;
        MPI_Datatype type;
        MPI_T_enum values;
        if (MPI_T_cvar_get_info(i, name, &length, &verbosity, &type, &values, NULL, &text, &binding, &scope) != MPI_SUCCESS)
            continue;
        if (!component_of(name, framework, component, sizeof component) || listed(list, component))
            continue;
        size_t used = strlen(list);
        snprintf(list + used, bytes - used, "%s%s", used > 0 ? " " : "", component);
    }
}

static void append_components(const char *framework, char *buf, size_t bytes)
{
    char list[NAME_BYTES];
    list_components(framework, list, sizeof list);
    size_t used = strlen(buf);
    if (list[0] != '\0' && used < bytes)
        snprintf(buf + used, bytes - used, ", %s %s", framework, list);
}

void pac_mpi_version(char *buf, size_t bytes)
{
    char library[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length, running = 0, provided;
    MPI_Get_library_version(library, &length);
    library[strcspn(library, ",\n")] = '\0';
    snprintf(buf, bytes, "%s", library);
    MPI_Initialized(&running);
    if (!running || MPI_T_init_thread(MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS)
        return;
    append_components("pml", buf, bytes);
    append_components(listed(buf, "cm") ? "mtl" : "btl", buf, bytes); /* pml cm moves messages by an mtl, the others by btls */
    MPI_T_finalize();
}

bool pac_mpi_takes_device(void)
{
#ifdef MPIX_CUDA_AWARE_SUPPORT
    return MPIX_Query_cuda_support() == 1;
#else
    return false;
#endif
}
