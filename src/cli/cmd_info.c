/* pac info and pac --version: what this program was built with and what it runs on. */
#include "cli.h"
#include "revision.h"
#include "pac/blas.h"
#include "pac/device.h"
#include "pac/h5.h"
#include "pac/limits.h"
#include "pac/packed.h"
#include "pac/parallel.h"
#include "pac/pool.h"
#include "pac/version.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <jansson.h>
#include <math.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* "eth0 10.0.0.2, ..." of the interfaces that are up, loopback last. */
static void list_interfaces(char *out, size_t bytes)
{
    struct ifaddrs *all, *i;
    out[0] = '\0';
    if (getifaddrs(&all) != 0)
        return;
    for (i = all; i != NULL; i = i->ifa_next) {
        char address[INET_ADDRSTRLEN];
        size_t used = strlen(out);
        if (i->ifa_addr == NULL || i->ifa_addr->sa_family != AF_INET || !(i->ifa_flags & IFF_UP))
            continue;
        inet_ntop(AF_INET, &((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr, address, sizeof address);
        snprintf(out + used, bytes - used, "%s%s %s", used > 0 ? ", " : "", i->ifa_name, address);
    }
    freeifaddrs(all);
}

static void cpu_model(char *out, size_t bytes)
{
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "r");
    snprintf(out, bytes, "unknown");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || colon == NULL)
            continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(out, bytes, "%s", colon + 2);
        break;
    }
    if (f != NULL)
        fclose(f);
}

typedef struct facts {
    char mpi[256], blas[256], bf16[128], hdf5[64], cpu[128], interfaces[512], cuda[512];
} facts;

/* "NVIDIA H200, ...", or "" where there is none. */
static void list_devices(char *out, size_t bytes)
{
    out[0] = '\0';
    for (int64_t i = 0; i < pac_device_count(); i++) {
        size_t used = strlen(out);
        char name[256];
        if (pac_device_name(i, name, sizeof name) == PAC_OK)
            snprintf(out + used, bytes - used, "%s%s", used > 0 ? ", " : "", name);
    }
}

/* How a backbone in bf16 is multiplied. */
static void bf16_products(char *out, size_t bytes)
{
    const pac_backend *be;
    const char *why;
    if (pac_backend_find("cpu", &be) != PAC_OK)
        snprintf(out, bytes, "unknown");
    else if (pac_packed_native(be, &why))
        snprintf(out, bytes, "%s", why);
    else
        snprintf(out, bytes, "widened to f32: %s", why);
}

static void gather(facts *f)
{
    pac_mpi_version(f->mpi, sizeof f->mpi);
    pac_blas_version(f->blas, sizeof f->blas);
    bf16_products(f->bf16, sizeof f->bf16);
    pac_h5_version(f->hdf5, sizeof f->hdf5);
    cpu_model(f->cpu, sizeof f->cpu);
    list_interfaces(f->interfaces, sizeof f->interfaces);
    list_devices(f->cuda, sizeof f->cuda);
}

void print_version(void)
{
    facts f;
    gather(&f);
    printf("pac %s (%s)\ncompiler  gcc-compatible %s\nMPI       %s\nBLAS      %s\nbf16      %s\nHDF5      %s\nCUDA      "
           "%s\ndevices   cpu: %s, "
           "%lld cores\n",
           PAC_VERSION, PAC_REVISION, __VERSION__, f.mpi, f.blas, f.bf16, f.hdf5,
           f.cuda[0] != '\0' ? f.cuda : pac_device_absence(), f.cpu, (long long)pac_cores(NULL));
}

pac_err cmd_info(const pac_args *a)
{
    facts f;
    pac_budget memory;
    long long threads = pac_pool_set_threads(pac_cores(NULL));
    PAC_TRY(pac_memory_budget(&memory));
    gather(&f);
    double period, quota = pac_limits_cores("", &period);
    if (!a->json) {
        print_version();
        if (isfinite(quota))
            printf("quota     %.2f cores, given anew every %.0f ms (control group)\n", quota, 1e3 * period);
        printf("threads   %lld of one rank alone here (OPENBLAS_NUM_THREADS sets another number)\nmemory    %.1f GiB may be "
               "used: %s\n"
               "network   %s\nJSON      jansson %s\n",
               threads, memory.bytes / 1073741824, memory.what, f.interfaces, jansson_version_str());
        return PAC_OK;
    }
    json_t *r = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s?, s:s, s:I, s:I, s:f, s:s, s:s}", "version",
                          PAC_VERSION, "revision", PAC_REVISION, "compiler", __VERSION__, "mpi", f.mpi, "blas", f.blas, "bf16",
                          f.bf16, "hdf5", f.hdf5, "network", f.interfaces, "cuda", f.cuda[0] != '\0' ? f.cuda : NULL, "cpu",
                          f.cpu, "cores", (json_int_t)pac_cores(NULL), "threads", (json_int_t)threads, "memory", memory.bytes,
                          "memory_limit", memory.what, "device", "cpu");
    char *text = r != NULL ? json_dumps(r, JSON_COMPACT) : NULL;
    PAC_CHECK(text != NULL, PAC_ENOMEM, "no memory for the result");
    printf("%s\n", text);
    free(text);
    json_decref(r);
    return PAC_OK;
}
