/* How checkpoints are opened: the options for it, and what there is to say about the files. */
#ifndef CMD_SHARED_INPUTS_OPEN_H
#define CMD_SHARED_INPUTS_OPEN_H

#include "cmd/shared/options/options.h"
#include "ivon/checkpoint.h"
#include "ivon/network.h"

/* --key, --hessian, --hessian-from, --batch-size, --parameters, --buffers, --no-sandbox: a child of
   every command that opens checkpoints; its input is a struct open_options. They hold for every
   input. */
struct open_options {
    struct ivon_open_options open; /* but for its memory; for_several is the command's to set */
    struct name_filter buffers;
    char **parameters; /* what open.parameters points to */
    bool given;        /* any of these options but --no-sandbox */
};
extern const struct argp open_argp;

void open_options_release(struct open_options *options);

/* Ends the program where one --hessian=FILE would serve several checkpoints. */
void open_check_hessian(const struct open_options *options, bool several, struct argp_state *state);

/* Opens a checkpoint, with `memory` bytes for decompressing (0: the default). Warns on stderr
   where the roles of the file's tensors are not certain; when verbose, describes them. */
int open_checkpoint(struct ivon_source **source, const char *path,
                    const struct open_options *options, size_t memory,
                    const struct common_options *common, struct ivon_error *error);

/* Gives a graph the checkpoint's tensors; says what it recognised and left out, and warns of what
   did not find its place. */
int bind_checkpoint(struct ivon_network *network, struct ivon_source *source, const char *path,
                    const struct ivon_bind_options *bind, const struct common_options *common,
                    struct ivon_error *error);

/* Warns of a pattern that named no buffer. */
void open_warn_unused(const struct open_options *options);

#endif
