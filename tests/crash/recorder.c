/* Loaded into the station by LD_PRELOAD: records what it does to the files in $RECORD_FOLDER, in the order in which it
 * does it, into $RECORD_FILE. It changes nothing, but for three things. With $FAIL_SYNC ("20" or "20-25") the syncs of a
 * journal with these numbers fail, with EIO. With $UNREADABLE the beginning of that file, as it is at the start, cannot
 * be read, and with $UNWRITABLE that file not be synced; its inode counts, not its name. Only whoever replays the record
 * knows what it means.
 *
 * A record: operation (1 byte), length of the path (2), offset (8), length of the data (4), path, data; little-endian.
 * 'c' created, 'w' written, 't' truncated to the offset, 's' synced, 'd' its data synced, 'r' renamed to the path in the data, 'u' unlinked.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FILES = 4096, PATH = 512 };

static char paths[FILES][PATH];
static int record = -1;
static int fail_first = 0, fail_last = 0, journal_syncs = 0;
static ino_t unreadable = 0, unwritable = 0;
static const char *folder;
static size_t folder_length;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) \
    static __typeof__(name) *real_##name; \
    if (!real_##name) real_##name = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
    folder = getenv("RECORD_FOLDER");
    const char *file = getenv("RECORD_FILE");
    if (!folder || !file) return;
    folder_length = strlen(folder);
    const char *fail = getenv("FAIL_SYNC");
    if (fail && sscanf(fail, "%d-%d", &fail_first, &fail_last) == 1) fail_last = fail_first;
    struct stat found;
    if (getenv("UNREADABLE") && stat(getenv("UNREADABLE"), &found) == 0) unreadable = found.st_ino;
    if (getenv("UNWRITABLE") && stat(getenv("UNWRITABLE"), &found) == 0) unwritable = found.st_ino;
    record = (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int inside(const char *path) {
    return record >= 0 && path && strncmp(path, folder, folder_length) == 0;
}

static const char *name(int fd) {
    return record >= 0 && fd >= 0 && fd < FILES && paths[fd][0] ? paths[fd] : NULL;
}

static void put(char operation, const char *path, uint64_t offset, const void *data, uint32_t length) {
    char head[15];
    uint16_t path_length = (uint16_t)strlen(path);
    head[0] = operation;
    memcpy(head + 1, &path_length, 2);
    memcpy(head + 3, &offset, 8);
    memcpy(head + 11, &length, 4);
    struct iovec parts[3] = {{head, sizeof head}, {(void *)path, path_length}, {(void *)data, length}};
    if (syscall(SYS_writev, record, parts, 3) < 0) abort();
}

static int opened(int fd, const char *path, int existed, int flags) {
    if (fd >= 0 && fd < FILES) {
        pthread_mutex_lock(&lock);
        paths[fd][0] = 0;
        if (inside(path)) {
            snprintf(paths[fd], PATH, "%s", path);
            if (!existed) put('c', path, 0, NULL, 0);
            else if (flags & O_TRUNC) put('t', path, 0, NULL, 0);
        }
        pthread_mutex_unlock(&lock);
    }
    return fd;
}

#define OPEN(function) \
    int function(const char *path, int flags, ...) { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        int existed = access(path, F_OK) == 0, kept = errno; \
        errno = kept; \
        int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode); \
        return opened(fd, path, existed, flags); \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    REAL(close);
    if (fd >= 0 && fd < FILES) paths[fd][0] = 0;
    return real_close(fd);
}

#define DO(operation, offset, data, length, call) \
    const char *path = name(fd); \
    if (!path) return call; \
    pthread_mutex_lock(&lock); \
    __typeof__(call) done = call; \
    int kept = errno; \
    if (done >= 0) put(operation, path, (uint64_t)(offset), data, (uint32_t)(length)); \
    errno = kept; \
    pthread_mutex_unlock(&lock); \
    return done

ssize_t write(int fd, const void *data, size_t length) {
    off_t at = name(fd) ? lseek(fd, 0, SEEK_CUR) : 0;
    DO('w', at, data, done, syscall(SYS_write, fd, data, length));
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t at) {
    DO('w', at, data, done, syscall(SYS_pwrite64, fd, data, length, at));
}
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at) {
    DO('w', at, data, done, syscall(SYS_pwrite64, fd, data, length, at));
}
int ftruncate(int fd, off_t length) { DO('t', length, NULL, 0, (int)syscall(SYS_ftruncate, fd, length)); }
int ftruncate64(int fd, off64_t length) { DO('t', length, NULL, 0, (int)syscall(SYS_ftruncate, fd, length)); }

static int refuses(int fd, off_t at) {
    struct stat found;
    if (!unreadable || at >= 512 || fstat(fd, &found) != 0 || found.st_ino != unreadable) return 0;
    errno = EIO;
    return 1;
}
ssize_t read(int fd, void *data, size_t length) {
    if (unreadable && refuses(fd, lseek(fd, 0, SEEK_CUR))) return -1;
    return syscall(SYS_read, fd, data, length);
}
ssize_t pread(int fd, void *data, size_t length, off_t at) {
    return refuses(fd, at) ? -1 : syscall(SYS_pread64, fd, data, length, at);
}
ssize_t pread64(int fd, void *data, size_t length, off64_t at) {
    return refuses(fd, at) ? -1 : syscall(SYS_pread64, fd, data, length, at);
}

static int sync_of(int fd, long call) {
    size_t length = name(fd) ? strlen(name(fd)) : 0;
    if (length > 4 && strcmp(name(fd) + length - 4, "-wal") == 0) {
        journal_syncs++;
        if (fail_first <= journal_syncs && journal_syncs <= fail_last) {
            errno = EIO;
            return -1;
        }
    }
    struct stat found;
    if (unwritable && fstat(fd, &found) == 0 && found.st_ino == unwritable) {
        errno = EIO;
        return -1;
    }
    DO(call == SYS_fsync ? 's' : 'd', 0, NULL, 0, (int)syscall(call, fd));
}
int fsync(int fd) { return sync_of(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_of(fd, SYS_fdatasync); }

int unlink(const char *path) {
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0), kept = errno;
    if (done == 0 && inside(path)) put('u', path, 0, NULL, 0);
    errno = kept;
    pthread_mutex_unlock(&lock);
    return done;
}

int rename(const char *from, const char *to) {
    pthread_mutex_lock(&lock);
    int done = (int)syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to), kept = errno;
    if (done == 0 && inside(from)) put('r', from, 0, to, (uint32_t)strlen(to));
    errno = kept;
    pthread_mutex_unlock(&lock);
    return done;
}
