/* Checkpoints that commands make and write as a whole. */
#ifndef CMD_SHARED_OUTPUTS_CHECKPOINT_H
#define CMD_SHARED_OUTPUTS_CHECKPOINT_H

#include <jansson.h>

#include "cmd/shared/options/options.h"
#include "ivon/ivon.h"

/* Fails where no tensor of that part can be written to the path, before the work of which it is the
   end: creates one as large as a mean of the source, and gives it up. An index is not created, as
   that removes the old one. */
int checkpoint_output_try(const char *path, struct ivon_source *source, enum ivon_part part,
                          const struct file_options *files, struct ivon_error *error);

struct checkpoint_output {
    const char *path, *command; /* "ivon-fit" */
    struct ivon_source *like;   /* of whose format it stays, if it can; or null */
    const struct file_options *files;
    json_t *provenance; /* borrowed */
    struct ivon_resources resources;
};

/* Writes the source under its header, with the creator and the provenance of this run. */
int checkpoint_output_write(const struct checkpoint_output *output, struct ivon_source *source,
                            struct ivon_error *error);

#endif
