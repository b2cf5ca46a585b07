/*
 * A checkpoint that several ranks write together. Rank 0 lays it out, as a process alone does; the
 * others open the hidden files, and each writes elements of tensors where they lie. Once all have
 * made durable what they wrote, rank 0 gives the files their names.
 */
#ifndef FORMATS_POSTERIOR_SHARED_SINK_H
#define FORMATS_POSTERIOR_SHARED_SINK_H

#include "formats/io/atomic.h"
#include "ivon/ranks.h"
#include "ivon/stream.h"

/* The file of a format's sink that a tensor's elements lie in, as they are, and where. Borrowed. */
typedef struct atomic_file *shared_sink_place(const struct ivon_sink *sink, size_t tensor,
                                              uint64_t *offset);

/*
 * Makes a sink of all ranks, which call this together, and then ivon_sink_commit. `code`, with its
 * error, says whether rank 0 could make `whole`, the sink of the format, which is taken over; on
 * others it is null. `path` is for messages. IVON_ERROR_CREATE where a rank does not find the
 * files; IVON_ERROR_INPUT where the tensors are not those of rank 0.
 */
int shared_sink_new(struct ivon_sink **sink, struct ivon_ranks *ranks, struct ivon_sink *whole,
                    shared_sink_place *place, const char *path, const struct ivon_tensor *tensors,
                    size_t tensor_count, int code, struct ivon_error *error);

#endif
