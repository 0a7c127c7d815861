/* Limits of memory, read from made-up /proc and /sys trees: both versions of control groups, nested, mounted in containers'
 * ways. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pac/limits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];

/* Write a file below the root, with its folders. */
static void put(const char *path, const char *text)
{
    char name[512];
    snprintf(name, sizeof name, "%s%s", root, path);
    for (char *slash = strchr(name + strlen(root) + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(name, 0755);
        *slash = '/';
    }
    FILE *f = fopen(name, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int empty_root(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s/*", root);
    return system(command);
}

static int new_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/pac-limits-XXXXXX");
    return mkdtemp(root) == NULL;
}

static int drop_root(void **state)
{
    empty_root(state);
    return rmdir(root);
}

/* The limit whose text begins so; there must be one. */
static pac_limit named(const char *what)
{
    pac_limit l[PAC_MOST_LIMITS];
    int64_t n = pac_limits_read(root, l);
    for (int64_t i = 0; i < n; i++)
        if (strncmp(l[i].what, what, strlen(what)) == 0)
            return l[i];
    fail_msg("no limit is called '%s'", what);
    return l[0];
}

static int64_t count(void)
{
    pac_limit l[PAC_MOST_LIMITS];
    return pac_limits_read(root, l);
}

static void test_machine(void **state)
{
    (void)state;
    assert_int_equal(count(), 0); /* no /proc: nothing is known */
    put("/proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:   1000 kB\n");
    assert_true(named("available memory").bytes == 1024000);
    assert_true(named("available memory").place != 0);
    assert_int_equal(count(), 1);
}

#define V2 "/sys/fs/cgroup"

/* Up the tree: the group's own limit is lax, its parent's is what counts; "max" is none. */
static void test_version_2(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/pac.slice/rank-0\n");
    put("/proc/self/mountinfo", "30 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw\n");
    put(V2 "/pac.slice/rank-0/memory.max", "max\n");
    put(V2 "/pac.slice/rank-0/memory.high", "5000\n");
    put(V2 "/pac.slice/rank-0/memory.current", "400\n");
    put(V2 "/pac.slice/rank-0/memory.stat", "anon 300\ninactive_file 100\nactive_file 0\n");
    put(V2 "/pac.slice/memory.max", "1000\n");
    put(V2 "/pac.slice/memory.current", "700\n");
    assert_int_equal(count(), 2);
    assert_true(named("memory.high of control group /pac.slice/rank-0").bytes == 5000 - 300);
    assert_true(named("memory.max of control group /pac.slice").bytes == 300);
    assert_true(named("memory.high").place != named("memory.max").place);
}

/* Used beyond its limit, a group leaves 0, not less. */
static void test_nothing_left(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/a\n");
    put("/proc/self/mountinfo", "30 23 0:28 / /sys/fs/cgroup rw - cgroup2 none rw\n");
    put(V2 "/a/memory.max", "1000\n");
    put(V2 "/a/memory.current", "5000\n");
    assert_true(named("memory.max").bytes == 0);
}

#define V1 "/sys/fs/cgroup/memory"
static const char *const mounts_v1 = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct "
                                     "rw - cgroup cgroup rw,cpu,cpuacct\n"
                                     "35 31 0:32 %s /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";

static void mount_v1(const char *top)
{
    char text[512];
    snprintf(text, sizeof text, mounts_v1, top);
    put("/proc/self/mountinfo", text);
}

/* Version 1 has the controller's name in both files, and the largest number of pages for none. */
static void test_version_1(void **state)
{
    (void)state;
    mount_v1("/");
    put("/proc/self/cgroup", "5:cpu,cpuacct:/elsewhere\n4:memory:/jobs/7\n0::/\n");
    put(V1 "/memory.limit_in_bytes", "9223372036854771712\n");
    put(V1 "/jobs/memory.limit_in_bytes", "2000000\n");
    put(V1 "/jobs/7/memory.limit_in_bytes", "1000000\n");
    put(V1 "/jobs/7/memory.usage_in_bytes", "500000\n");
    put(V1 "/jobs/7/memory.stat", "inactive_file 1\ntotal_inactive_file 200000\n");
    assert_int_equal(count(), 2);
    assert_true(named("memory.limit_in_bytes of control group /jobs/7").bytes == 700000);
}

/* A container sees the host's path of its group, but has that group mounted as its root. */
static void test_group_of_a_container(void **state)
{
    (void)state;
    mount_v1("/docker/abc");
    put("/proc/self/cgroup", "4:memory:/docker/abc\n");
    put(V1 "/memory.limit_in_bytes", "3000\n");
    assert_int_equal(count(), 1);
    assert_true(named("memory.limit_in_bytes of control group /").bytes == 3000);
    put("/proc/self/cgroup", "4:memory:/docker/abcdef\n"); /* not below /docker/abc: the mount's root is all there is */
    assert_true(named("memory.limit_in_bytes").bytes == 3000);
    put("/proc/self/cgroup", "4:memory:/docker/abc/inner\n");
    put(V1 "/inner/memory.limit_in_bytes", "1000\n");
    assert_int_equal(count(), 2);
}

/* The least quota from the own group up, in either version. */
static void test_processor_time(void **state)
{
    (void)state;
    double period = 1;
    assert_true(pac_limits_cores(root, &period) == INFINITY && period == 0);
    put("/proc/self/cgroup", "0::/a/b\n");
    put("/proc/self/mountinfo", "30 23 0:28 / /sys/fs/cgroup rw - cgroup2 none rw\n");
    put(V2 "/a/b/cpu.max", "max 100000\n");
    put(V2 "/a/cpu.max", "50000 100000\n");
    assert_true(pac_limits_cores(root, &period) == 0.5 && fabs(period - 0.1) < 1e-12);
    put("/proc/self/cgroup", "5:cpu,cpuacct:/q\n0::/\n");
    put("/proc/self/mountinfo", "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n");
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/q/cpu.cfs_quota_us", "2500\n");
    put("/sys/fs/cgroup/cpu,cpuacct/q/cpu.cfs_period_us", "10000\n");
    assert_true(pac_limits_cores(root, &period) == 0.25 && fabs(period - 0.01) < 1e-12);
}

static void test_damaged_files(void **state)
{
    (void)state;
    static const char *const junk[] = {"",    "\n",    ":",   "::",         "4:memory",
                                       "0::", "a b c", " - ", " - cgroup2", "1 2 3 - cgroup2 x y"};
    for (size_t i = 0; i < sizeof junk / sizeof junk[0]; i++)
        for (size_t j = 0; j < sizeof junk / sizeof junk[0]; j++) {
            put("/proc/self/cgroup", junk[i]);
            put("/proc/self/mountinfo", junk[j]);
            put("/proc/meminfo", junk[i]);
            assert_int_equal(count(), 0);
            double period;
            assert_true(pac_limits_cores(root, &period) == INFINITY);
        }
}

/* More levels than are listed: never more than there is room for. */
static void test_deep_tree(void **state)
{
    (void)state;
    char line[1024] = "0::", path[1024];
    put("/proc/self/mountinfo", "30 23 0:28 / /sys/fs/cgroup rw - cgroup2 none rw\n");
    for (int i = 0; i < 40; i++) {
        snprintf(line + strlen(line), sizeof line - strlen(line), "/g%d", i);
        snprintf(path, sizeof path, V2 "%.900s/memory.max", line + 3);
        put(path, "4096");
    }
    put("/proc/self/cgroup", line);
    assert_int_equal(count(), PAC_MOST_LIMITS);
}

static void test_resource_limit(void **state)
{
    (void)state;
    struct rlimit was, now;
    assert_int_equal(getrlimit(RLIMIT_DATA, &was), 0);
    now = (struct rlimit){.rlim_cur = 1 << 30, .rlim_max = was.rlim_max};
    put("/proc/self/status", "Name: x\nVmSize:\t 4096 kB\nVmData:\t  1024 kB\n");
    assert_int_equal(setrlimit(RLIMIT_DATA, &now), 0);
    pac_limit l = named("RLIMIT_DATA");
    assert_int_equal(setrlimit(RLIMIT_DATA, &was), 0);
    assert_true(l.bytes == (1 << 30) - 1048576 && l.place == 0); /* nobody shares it */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_machine, empty_root),
        cmocka_unit_test_setup(test_version_2, empty_root),
        cmocka_unit_test_setup(test_nothing_left, empty_root),
        cmocka_unit_test_setup(test_version_1, empty_root),
        cmocka_unit_test_setup(test_group_of_a_container, empty_root),
        cmocka_unit_test_setup(test_processor_time, empty_root),
        cmocka_unit_test_setup(test_damaged_files, empty_root),
        cmocka_unit_test_setup(test_deep_tree, empty_root),
        cmocka_unit_test_setup(test_resource_limit, empty_root),
    };
    return cmocka_run_group_tests(tests, new_root, drop_root);
}
