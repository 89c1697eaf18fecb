/* Preloaded into ai-cache: the FAULT_AT-th call FAULT_CALL on a file of the folder FAULT_DIR fails with
 * EIO, or kills the process when FAULT_HOW is "kill"; with "ever" each later call fails too. A write does
 * half of its work first. Each call is noted in FAULT_LOG, and the fault as well. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_int seen;

static int is_ours(const char *path) {
    const char *folder = getenv("FAULT_DIR");
    return folder && strncmp(path, folder, strlen(folder)) == 0;
}

static int is_our_file(int file) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return is_ours(path);
}

static void note(const char *line) {
    int log = open(getenv("FAULT_LOG"), O_WRONLY | O_APPEND | O_CREAT, 0600);
    syscall(SYS_write, log, line, strlen(line));
    close(log);
}

static int is_due(const char *call) {
    char line[32];
    snprintf(line, sizeof line, "%s\n", call);
    note(line);
    if (strcmp(call, getenv("FAULT_CALL")) != 0)
        return 0;
    int over = ++seen - atoi(getenv("FAULT_AT"));
    if (over < 0 || (over > 0 && strcmp(getenv("FAULT_HOW"), "ever") != 0))
        return 0;
    note("fault\n");
    return 1;
}

static int fail(void) {
    if (strcmp(getenv("FAULT_HOW"), "kill") == 0) {
        kill(getpid(), SIGKILL);
        pause();
    }
    errno = EIO;
    return -1;
}

ssize_t write(int file, const void *bytes, size_t length) {
    if (is_our_file(file) && is_due("write")) {
        syscall(SYS_write, file, bytes, length / 2);
        return fail();
    }
    return syscall(SYS_write, file, bytes, length);
}

int fdatasync(int file) {
    return is_our_file(file) && is_due("fdatasync") ? fail() : syscall(SYS_fdatasync, file);
}

int fsync(int file) {
    return is_our_file(file) && is_due("fsync") ? fail() : syscall(SYS_fsync, file);
}

int rename(const char *from, const char *to) {
    if (is_ours(from) && is_due("rename"))
        return fail();
    return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlink(const char *path) {
    return is_ours(path) && is_due("unlink") ? fail() : syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}
