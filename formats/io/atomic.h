/*
 * Whole or absent: an output grows in a hidden file beside its target and takes the target's name
 * only when it is complete and on disk.
 *
 * The hidden file's name is a function of the target's, and its writer holds a lock on it. So the
 * next run with the same target takes over what a killed one left, and two runs at once cannot
 * disturb each other.
 *
 * A target that is a symbolic link is replaced itself, and one of several hard links leaves the
 * others: what else leads to the old file keeps its bytes. So a copy of a model hub's cache, which
 * consists of links into a store, can be written to without changing the store.
 */
#ifndef FORMATS_IO_ATOMIC_H
#define FORMATS_IO_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "ivon/error.h"

struct atomic_file {
    char *path;              /* the target, as the user wrote it */
    char *temporary;         /* beside the target; null for one that was joined */
    int descriptor;          /* of the temporary file; -1 when there is none */
    mode_t mode;             /* the old file's permissions, or 0 */
    bool replaces;           /* a file or a link of the target's name */
    struct open_file *noted; /* for ivon_outputs_abandon; private */
};

/* Opens an empty temporary file. An existing target is refused unless `replace`; so is "-", by
   which commands mean standard output. */
int atomic_open(struct atomic_file *file, const char *path, bool replace, struct ivon_error *error);

/* Sets aside `size` bytes on disk, so that a full disk is found before the work, not after it. */
int atomic_reserve(struct atomic_file *file, uint64_t size, struct ivon_error *error);

/* Writes all of `size` bytes at `offset`. Several threads may write at once. */
int atomic_write(struct atomic_file *file, uint64_t offset, const void *data, size_t size,
                 struct ivon_error *error);

/* Reads all of `size` bytes that were written at `offset`. */
int atomic_read(struct atomic_file *file, uint64_t offset, void *data, size_t size,
                struct ivon_error *error);

/*
 * Several processes may write one file. The one that opened it shares it, and tells its identity to
 * the others, which join it; each makes durable what it wrote by atomic_sync. When all have joined,
 * the first settles it; it alone commits the file, or removes it.
 *
 * They all hold the lock, which is a shared one then: another run is refused until the last of them
 * has ended, whichever ended first. Linux's NFS, too, sends no other bytes of a page than those
 * that were written, while it knows the file as locked by several.
 */
struct atomic_identity {
    uint64_t inode, size;
    unsigned char token[16]; /* behind the end, as long as the file is not settled */
};
int atomic_share(struct atomic_file *file, struct atomic_identity *identity,
                 struct ivon_error *error);
int atomic_settle(struct atomic_file *file, const struct atomic_identity *identity,
                  struct ivon_error *error);

/* Returns why the file of that name and identity cannot be joined, or null. `path` is the target,
   for later messages. */
const char *atomic_join(struct atomic_file *file, const char *path, const char *temporary,
                        const struct atomic_identity *identity);

/* Makes the file durable under its hidden name: what is left for atomic_commit rarely fails. */
int atomic_sync(struct atomic_file *file, struct ivon_error *error);

/* Syncs the file, renames it to its target, syncs the directory. */
int atomic_commit(struct atomic_file *file, struct ivon_error *error);

/* The same, but leaves it open to be read, by *descriptor, which is the caller's to close. */
int atomic_publish(struct atomic_file *file, int *descriptor, struct ivon_error *error);

/* Copies `size` bytes at `from` of another file's descriptor to `to` of this one. */
int atomic_copy(struct atomic_file *file, uint64_t to, int descriptor, uint64_t from, uint64_t size,
                struct ivon_error *error);

/* Frees everything; a file that was not committed is removed. */
void atomic_close(struct atomic_file *file);

/* ".NAME.ivon-tmp" in the directory of `target`, to be freed; null when memory is exhausted. */
char *atomic_temporary_name(const char *target);

/* Takes note of a temporary file or directory, which ivon_outputs_abandon removes. Without memory
   nothing is noted: the next run takes over what is left. */
struct open_file *atomic_note(const char *temporary);
void atomic_forget(struct open_file **noted);

/* Makes a rename to `target` durable; file systems that cannot are left to their own ways. */
void atomic_sync_around(const char *target);

#endif
