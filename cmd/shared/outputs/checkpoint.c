#include "cmd/shared/outputs/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/outputs/provenance.h"

int checkpoint_output_try(const char *path, struct ivon_source *source, enum ivon_part part,
                          const struct file_options *files, struct ivon_error *error)
{
    struct ivon_create_options create = ivon_create_defaults();
    struct ivon_header header = ivon_header_empty();
    struct ivon_sink *sink = NULL;
    size_t count = ivon_source_tensor_count(source), at = 0;
    while (at < count && ivon_source_tensor(source, at)->part != IVON_MEAN)
        at++;
    if (at == count || ivon_checkpoint_has_shards(path))
        return 0;
    create.replace = files->force;
    struct ivon_tensor tensor = *ivon_source_tensor(source, at);
    tensor.part = part;
    tensor.dtype = IVON_F32;
    tensor.ess = header.ess = 1;
    tensor.weight_decay = header.weight_decay = 1;
    int code = ivon_checkpoint_create(&sink, path, &header, &tensor, 1, &create, error);
    ivon_sink_close(sink);
    return code;
}

static int checkpoint_output_create(const struct checkpoint_output *output,
                                    const struct ivon_source *source, struct ivon_sink **sink,
                                    struct ivon_error *error)
{
    char creator[64], *text = NULL;
    struct ivon_header header = *ivon_source_header(source);
    struct ivon_create_options create = ivon_create_defaults();
    size_t count = ivon_source_tensor_count(source);
    struct ivon_tensor *tensors = xcalloc(count + 1, sizeof *tensors);
    create.replace = output->files->force;
    create.like = output->like;
    create.resources.progress = output->resources.progress;
    if (!output->files->no_provenance)
        text = provenance_text(json_incref(output->provenance));
    snprintf(creator, sizeof creator, "%s %s", output->command, ivon_version());
    header.creator = creator;
    header.provenance = text;
    ivon_convert_outputs(source, IVON_DTYPE_KEEP, tensors);
    int code = ivon_checkpoint_create(sink, output->path, &header, tensors, count, &create, error);
    free(text);
    free(tensors);
    return code;
}

int checkpoint_output_write(const struct checkpoint_output *output, struct ivon_source *source,
                            struct ivon_error *error)
{
    struct ivon_convert_options convert = ivon_convert_defaults();
    struct ivon_sink *sink = NULL;
    convert.resources = output->resources;
    int code = checkpoint_output_create(output, source, &sink, error);
    if (!code)
        code = ivon_convert_write(source, &convert, sink, error);
    if (!code)
        code = ivon_sink_commit(sink, error);
    ivon_sink_close(sink);
    return code;
}
