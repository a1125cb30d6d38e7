/*
 * Preloaded into a process, this writes down in which order it changes files below a folder: what is written where,
 * truncations, syncs, renames and removals. run.mjs makes from that what a disk may hold after the power went.
 *
 * RECORD_FOLDER  the folder
 * RECORD_TO      the file of records: a struct record, the path, then the bytes that were written
 *
 * A call and its record are under one lock, so the records stand in the order of the calls. A sync covers what was
 * recorded before it began.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { WRITTEN = 1, TRUNCATED, SYNCED, RENAMED, REMOVED };

struct record {
  uint32_t kind;
  uint32_t is_durable; /* written with O_DSYNC */
  uint64_t inode;
  uint64_t offset; /* or the new length */
  uint64_t byte_length;
  uint64_t covered_count; /* records that a sync covers */
  uint64_t path_byte_length;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *folder;
static int records = -1;
static uint64_t record_count;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("RECORD_TO");
  folder = getenv("RECORD_FOLDER");
  if (path && folder) records = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int is_below(const char *path) { return strncmp(path, folder, strlen(folder)) == 0; }

/* Whether a descriptor is of a file below the folder, and its path. */
static int is_recorded(int fd, char path[PATH_MAX]) {
  char link[40];
  if (records < 0 || fd < 3 || fd == records) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return is_below(path);
}

static void record(struct record entry, const char *path, const void *bytes) {
  entry.path_byte_length = strlen(path);
  struct iovec parts[] = {
      {&entry, sizeof entry}, {(void *)path, entry.path_byte_length}, {(void *)bytes, bytes ? entry.byte_length : 0}};
  if (syscall(SYS_writev, records, parts, 3) < 0) abort();
  record_count++;
}

static uint64_t inode_of(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 ? status.st_ino : 0;
}

static void record_written(int fd, const char *path, const struct iovec *parts, int count, off_t at, ssize_t written) {
  for (int i = 0; i < count && written > 0; i++) {
    size_t length = parts[i].iov_len < (size_t)written ? parts[i].iov_len : (size_t)written;
    record((struct record){.kind = WRITTEN,
                           .is_durable = (fcntl(fd, F_GETFL) & O_DSYNC) != 0,
                           .inode = inode_of(fd),
                           .offset = at,
                           .byte_length = length},
           path, parts[i].iov_base);
    at += length;
    written -= length;
  }
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name)
#define LOCKED(call) pthread_mutex_lock(&lock); __typeof__(call) result = call

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
  REAL(pwrite);
  char path[PATH_MAX];
  if (!is_recorded(fd, path)) return real(fd, bytes, length, at);
  LOCKED(real(fd, bytes, length, at));
  record_written(fd, path, &(struct iovec){(void *)bytes, length}, 1, at, result);
  pthread_mutex_unlock(&lock);
  return result;
}
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) { return pwrite(fd, bytes, length, at); }

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
  REAL(pwritev);
  char path[PATH_MAX];
  if (!is_recorded(fd, path)) return real(fd, parts, count, at);
  LOCKED(real(fd, parts, count, at));
  record_written(fd, path, parts, count, at, result);
  pthread_mutex_unlock(&lock);
  return result;
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) { return pwritev(fd, parts, count, at); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
  REAL(writev);
  char path[PATH_MAX];
  if (!is_recorded(fd, path)) return real(fd, parts, count);
  LOCKED(real(fd, parts, count));
  if (result > 0) record_written(fd, path, parts, count, lseek(fd, 0, SEEK_CUR) - result, result);
  pthread_mutex_unlock(&lock);
  return result;
}

ssize_t write(int fd, const void *bytes, size_t length) {
  REAL(write);
  char path[PATH_MAX];
  if (!is_recorded(fd, path)) return real(fd, bytes, length);
  LOCKED(real(fd, bytes, length));
  if (result > 0) {
    struct iovec part = {(void *)bytes, length};
    record_written(fd, path, &part, 1, lseek(fd, 0, SEEK_CUR) - result, result);
  }
  pthread_mutex_unlock(&lock);
  return result;
}

int ftruncate(int fd, off_t length) {
  REAL(ftruncate);
  char path[PATH_MAX];
  if (!is_recorded(fd, path)) return real(fd, length);
  LOCKED(real(fd, length));
  if (result == 0) record((struct record){.kind = TRUNCATED, .inode = inode_of(fd), .offset = length}, path, NULL);
  pthread_mutex_unlock(&lock);
  return result;
}
int ftruncate64(int fd, off64_t length) { return ftruncate(fd, length); }

static int sync_with(int (*real)(int), int fd) {
  char path[PATH_MAX];
  if (!is_recorded(fd, path)) return real(fd);
  pthread_mutex_lock(&lock);
  uint64_t covered_count = record_count;
  pthread_mutex_unlock(&lock);
  LOCKED(real(fd)); /* threads that write meanwhile wait: a sync covers no less by that */
  if (result == 0)
    record((struct record){.kind = SYNCED, .inode = inode_of(fd), .covered_count = covered_count}, path, NULL);
  pthread_mutex_unlock(&lock);
  return result;
}
int fsync(int fd) { REAL(fsync); return sync_with(real, fd); }
int fdatasync(int fd) { REAL(fdatasync); return sync_with(real, fd); }

int rename(const char *from, const char *to) {
  REAL(rename);
  if (records < 0 || !is_below(to)) return real(from, to);
  LOCKED(real(from, to));
  char both[2 * PATH_MAX];
  snprintf(both, sizeof both, "%s\n%s", from, to);
  if (result == 0) record((struct record){.kind = RENAMED}, both, NULL);
  pthread_mutex_unlock(&lock);
  return result;
}

int unlink(const char *path) {
  REAL(unlink);
  if (records < 0 || !is_below(path)) return real(path);
  LOCKED(real(path));
  if (result == 0) record((struct record){.kind = REMOVED}, path, NULL);
  pthread_mutex_unlock(&lock);
  return result;
}
