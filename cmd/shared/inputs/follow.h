/*
 * The checkpoints that a training writes to a directory, as they come.
 *
 * A file is handed out when it is closed after writing, or renamed into the directory; those that
 * are there at the start come first, in the natural order of their names (step-9 before step-10).
 * It is handed out again when it is written anew: when its inode, size or time of modification is
 * another than when it was handed out. Nothing is missed and nothing comes twice, however long the
 * caller is busy with a file; but one that is replaced while the caller opens it comes again, as
 * nobody knows which of the two was opened.
 *
 * Taken for checkpoints are regular files, but not those whose name
 *   - begins with '.', or ends in .part, .tmp or ~: unfinished, or not meant to be seen;
 *   - ends in .csv, .json, .jsonl, .ndjson, .log, .txt, .yaml or .yml: what is written beside them;
 *   - is `done`, by which, whatever it is, the training says that it ended.
 * A symbolic link is none: what it leads to has a name of its own. Files on a network that another
 * machine writes are not noticed, but for those at the start and at the end.
 */
#ifndef CMD_SHARED_INPUTS_FOLLOW_H
#define CMD_SHARED_INPUTS_FOLLOW_H

#include <signal.h>
#include <stdbool.h>

#include "ivon/error.h"

struct follow;

/* `stop` is what the caller's signal handler sets to another value than 0; null: nothing does.
   Fails with IVON_ERROR_INPUT where the directory cannot be watched. */
int follow_open(struct follow **follow, const char *directory, const volatile sig_atomic_t *stop,
                struct ivon_error *error);
void follow_close(struct follow *follow);

/* Lets follow_next() wait so many seconds at most, more than 0, and end when none came. */
void follow_end_when_idle(struct follow *follow, double seconds);

/* Returns whether the end came so. */
bool follow_was_idle(const struct follow *follow);

/*
 * Waits for the next file: "DIRECTORY/NAME", valid until the next call with this `follow`. Null at
 * the end: when *stop is set, at once; when `done` has appeared, after all that the directory held
 * then; or when none came for as long as follow_end_when_idle() says. Fails with IVON_ERROR_INPUT
 * when the directory is removed, renamed or unmounted.
 */
int follow_next(struct follow *follow, const char **path, struct ivon_error *error);

/*
 * Says that the last file cannot be read yet: half-written, by a writer that had it open at the
 * start or was killed. It is handed out once more when it is next closed or renamed into place, be
 * it unchanged (its writer may have locked it), and not before.
 */
void follow_again(struct follow *follow);

#endif
