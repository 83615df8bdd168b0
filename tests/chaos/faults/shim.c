/* Gets in the way of fsync and fdatasync. SHIM_STEER names a file with two numbers: milliseconds to wait before each call,
 * and 1 when calls shall fail with EIO. Each call leaves one byte in <SHIM_STEER>.calls. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
