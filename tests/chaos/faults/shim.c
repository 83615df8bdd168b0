/* Gets in the way of fsync and fdatasync. SHIM_STEER names a file with two numbers: milliseconds to wait before each call,
 * and 1 when calls shall fail with EIO. Each call leaves one byte in <SHIM_STEER>.calls.
 *
 * SHIM_CLOCK names a file of eight bytes: seconds (signed) by which this process's wall clock is off. It is read as memory,
 * since clocks are asked all the time. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static int steered(void) {
    const char *path = getenv("SHIM_STEER");
    char text[64] = {0};
    char calls[4096];
    int ms = 0, fails = 0, fd;
    if (path == NULL) return 0;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    if (read(fd, text, sizeof text - 1) > 0) sscanf(text, "%d %d", &ms, &fails);
    close(fd);
    snprintf(calls, sizeof calls, "%s.calls", path);
    fd = open(calls, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0) {
        if (write(fd, ".", 1) < 0) ms += 0;
        close(fd);
    }
    if (ms > 0) {
        struct timespec wait = {ms / 1000, (ms % 1000) * 1000000L};
        nanosleep(&wait, NULL);
    }
    return fails;
}

#define WRAP(name)                                                   \
    int name(int fd) {                                               \
        static int (*real)(int);                                     \
        if (real == NULL) real = (int (*)(int))dlsym(RTLD_NEXT, #name); \
        if (steered()) {                                             \
            errno = EIO;                                             \
            return -1;                                               \
        }                                                            \
        return real(fd);                                             \
    }

WRAP(fsync)
WRAP(fdatasync)

static volatile const int64_t *off;

__attribute__((constructor)) static void map_clock(void) {
    const char *path = getenv("SHIM_CLOCK");
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    void *page;
    if (fd < 0) return;
    page = mmap(NULL, sizeof *off, PROT_READ, MAP_SHARED, fd, 0);
    if (page != MAP_FAILED) off = page;
    close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    int result;
    if (real == NULL) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    result = real(clock, now);
    if (result == 0 && clock == CLOCK_REALTIME && off != NULL) now->tv_sec += *off;
    return result;
}
