/* Adapters as models of ivon-merge, and as its outputs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/merge/merge.h"
#include "cmd/shared/command.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

void merge_name_adapter(struct merge_model *model)
{
    char *file = ivon_checkpoint_adapter_file(model->path);
    if (!file)
        memory_exhausted();
    size_t length = strlen(file) + 1, more = model->hessian ? strlen(model->hessian) + 1 : 0;
    file = xreallocarray(file, length + more, 1);
    if (model->hessian) /* which lies behind the path, and still does */
        model->hessian = memcpy(file + length, model->hessian, more);
    free(model->path);
    model->path = file;
}

int merge_apply_adapter(struct ivon_source **source, const struct merge_command *command,
                        struct ivon_error *error)
{
    char *config = ivon_checkpoint_adapter_config(ivon_source_path(*source));
    bool adapter = config && command->base && ivon_adapter_recognise(*source);
    free(config);
    if (!adapter)
        return 0;
    struct ivon_source *factors = *source;
    *source = NULL;
    int code = ivon_checkpoint_apply_adapter(source, command->base, factors, error);
    if (!code && command->common.verbose)
        report_note("%s: %s", ivon_source_path(*source), ivon_source_header(*source)->mapping);
    return code;
}

int merge_create_adapters(struct merge_command *command, struct ivon_error *error)
{
    struct ivon_extraction_options options = ivon_extraction_defaults();
    options.rank = command->lora_rank;
    options.dtype = command->lora_dtype;
    options.resources = command->options.resources;
    options.base_name = command->base_name = merge_model_name(command->base_path);
    command->extractions = xcalloc(command->scale_count, sizeof *command->extractions);
    int code = 0;
    for (size_t s = 0; s < command->scale_count && !code; s++) {
        code = merge_folder_create(command, s, error);
        if (!code)
            code = ivon_extraction_new(&command->extractions[s], command->base, command->sources,
                                       command->model_count, command->merge, s, &options, error);
        if (!code)
            code = ivon_extraction_sink(command->extractions[s], &command->sinks[s], error);
    }
    return code;
}

/* Writes the factors into an output that is begun. */
static int adapter_write_factors(struct merge_command *command, size_t output,
                                 struct ivon_source *source, const char *provenance,
                                 struct ivon_sink **sink, struct ivon_error *error)
{
    char creator[64];
    const char *path;
    struct ivon_header header = ivon_header_empty();
    struct ivon_create_options create = ivon_create_defaults();
    create.replace = command->files.force;
    snprintf(creator, sizeof creator, "ivon-merge %s", ivon_version());
    header.creator = creator;
    header.provenance = provenance;
    int code = merge_folder_weights(command, output, &path, &create, error);
    if (!code)
        code = ivon_checkpoint_create(sink, path, &header, ivon_source_tensor(source, 0),
                                      ivon_source_tensor_count(source), &create, error);
    return code ? code : ivon_convert_write(source, NULL, *sink, error);
}

int merge_write_adapters(struct merge_command *command, const char *provenance,
                         struct ivon_error *error)
{
    int code = 0;
    for (size_t s = 0; s < command->scale_count && !code; s++) {
        struct ivon_source *source = NULL;
        struct ivon_sink *sink = NULL;
        char *config = NULL;
        code = ivon_extraction_finish(command->extractions[s], &source, &config, error);
        if (!code)
            code = adapter_write_factors(command, s, source, provenance, &sink, error);
        if (!code)
            code = ivon_directory_write(command->folder.directories[s], "adapter_config.json",
                                        config, strlen(config), error);
        if (!code)
            code = merge_folder_commit(command, s, sink, error);
        ivon_sink_close(sink);
        ivon_source_close(source);
        free(config);
    }
    return code;
}
