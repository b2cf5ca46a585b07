/* The ranks of this program, where a launcher of MPI started several (ivon/ranks.h). Rank 0 alone
   prints, and writes outputs. */
#ifndef CMD_SHARED_PROCESS_RANKS_H
#define CMD_SHARED_PROCESS_RANKS_H

#include <stdbool.h>

#include "cmd/shared/command.h"
#include "ivon/ranks.h"

/* Joins them, before the program is confined, and refuses several where the command does not share
   its work. Returns an exit status, 0 if it can begin; a message is printed. From here on what the
   other ranks print is dropped, and standard input of several cannot be read. */
int ranks_join(const struct command *command);

/* Null: this process is alone. */
struct ivon_ranks *ranks_joined(void);

/* Returns whether this is rank 0: of several, or alone. */
bool ranks_first(void);

/* Fails where there are several ranks: `what` is computed by one process. */
int ranks_refuse(const char *what, struct ivon_error *error);

/* Agrees on the result of a command: on a failure all have the error of one, or of what they agreed
   on before, to which rank 0 may have added something. */
int ranks_agree(int code, struct ivon_error *error);

/* Gives all a text of rank 0's, or null: *text is to be freed. */
int ranks_share_text(char **text, struct ivon_error *error);

/* Leaves them with an exit status, and returns that of all: where a rank ends by itself, with a
   status that is not 0, they all end. */
int ranks_leave(int status);

#endif
