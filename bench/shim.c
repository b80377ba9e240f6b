/* Counts flushes, and can stand in for a disk whose flush costs the same every time.
 *
 *   cc -O2 -shared -fPIC -o shim.so shim.c -ldl
 *   LD_PRELOAD=./shim.so FLUSH_US=1000 python ...
 *
 * FLUSH_US set: nothing is flushed, the caller sleeps that long. Unset: the real call. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static atomic_long flushes;
static long cost_us = -1;
static int (*real_fsync)(int), (*real_fdatasync)(int);

__attribute__((constructor)) static void start(void) {
    const char *us = getenv("FLUSH_US");
    if (us && *us) cost_us = atol(us);
    real_fsync = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
}

long bench_flushes(void) { return atomic_load(&flushes); }

static int flush(int fd, int (*real)(int)) {
    atomic_fetch_add(&flushes, 1);
    if (cost_us < 0) return real(fd);
    struct timespec pause = {cost_us / 1000000, (cost_us % 1000000) * 1000};
    if (cost_us) nanosleep(&pause, 0);
    return 0;
}

int fsync(int fd) { return flush(fd, real_fsync); }
int fdatasync(int fd) { return flush(fd, real_fdatasync); }
