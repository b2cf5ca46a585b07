/*
 * Threads that wait for work: for a program whose pieces are so short that starting threads for
 * each would count. One piece at a time.
 */
#ifndef CORE_TEAM_H
#define CORE_TEAM_H

#include <stddef.h>

#include "ivon/error.h"

struct team;

/* `threads` of them, the one that calls team_run among them; fewer where the system has no more,
   which merely takes longer. At least one. */
int team_new(struct team **team, int threads, struct ivon_error *error);
void team_free(struct team *team);

/*
 * Runs job(context, i, thread, error) for every i below `count`, handed out in rising order to at
 * most `threads` of the team; `thread` is below their number. After a failure no new job starts.
 * The failure with the lowest i is returned: jobs start in order, so it is the same on any machine.
 */
int team_run(struct team *team, int threads, size_t count,
             int (*job)(void *context, size_t i, int thread, struct ivon_error *error),
             void *context, struct ivon_error *error);

#endif
