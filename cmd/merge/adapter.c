/* Adapters as models of ivon-merge, and as its outputs. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

static const char *const adapter_files[] = {"adapter_model.safetensors", "adapter_config.json"};
enum { ADAPTER_MODEL, ADAPTER_CONFIG, ADAPTER_FILES };

/* The path of one of an adapter's files in its directory, to be freed. */
static char *adapter_file(const char *directory, int file)
{
    char *path;
    size_t length = strlen(directory);
    while (length > 1 && directory[length - 1] == '/')
        length--;
    if (asprintf(&path, "%.*s/%s", (int)length, directory, adapter_files[file]) < 0)
        memory_exhausted();
    return path;
}

/* Refuses, before the work begins, what will not be written over. */
static int adapter_check_output(const char *directory, bool force, struct ivon_error *error)
{
    struct stat status;
    int code = 0;
    if (stat(directory, &status) == 0 && !S_ISDIR(status.st_mode))
        return error_fill(error, IVON_ERROR_CREATE, "%s: is a file, expected a directory",
                          directory);
    for (int i = 0; i < ADAPTER_FILES && !force && !code; i++) {
        char *path = adapter_file(directory, i);
        if (access(path, F_OK) == 0)
            code = error_fill(error, IVON_ERROR_CREATE, "%s: file exists; --force replaces it",
                              path);
        free(path);
    }
    return code;
}

int merge_create_adapters(struct merge_command *command, struct ivon_error *error)
{
    struct ivon_extraction_options options = ivon_extraction_defaults();
    options.rank = command->lora_rank;
    options.dtype = command->lora_dtype;
    options.resources = command->options.resources;
    command->extractions = xcalloc(command->scale_count, sizeof *command->extractions);
    int code = 0;
    for (size_t s = 0; s < command->scale_count && !code; s++) {
        code = adapter_check_output(command->outputs[s], command->files.force, error);
        if (!code)
            code = ivon_extraction_new(&command->extractions[s], command->base, command->sources,
                                       command->model_count, command->merge, s, &options, error);
        if (!code)
            code = ivon_extraction_sink(command->extractions[s], &command->sinks[s], error);
    }
    return code;
}

/* Writes the factors under a hidden name, the configuration, and then the factors' name. */
static int adapter_write(const struct merge_command *command, const char *directory,
                         struct ivon_source *source, const char *config, const char *provenance,
                         struct ivon_error *error)
{
    char creator[64];
    struct ivon_sink *sink = NULL;
    struct ivon_header header = ivon_header_empty();
    struct ivon_create_options create = ivon_create_defaults();
    size_t count = ivon_source_tensor_count(source);
    char *model = adapter_file(directory, ADAPTER_MODEL);
    char *beside = adapter_file(directory, ADAPTER_CONFIG);
    create.replace = command->files.force;
    snprintf(creator, sizeof creator, "ivon-merge %s", ivon_version());
    header.creator = creator;
    header.provenance = provenance;
    int code = mkdir(directory, 0777) == 0 || errno == EEXIST
                   ? ivon_checkpoint_create(&sink, model, &header, ivon_source_tensor(source, 0),
                                            count, &create, error)
                   : error_fill(error, IVON_ERROR_CREATE, "%s: cannot create it: %s", directory,
                                strerror(errno));
    if (!code)
        code = ivon_convert_write(source, NULL, sink, error);
    if (!code)
        code = ivon_output_write(beside, config, strlen(config), command->files.force, error);
    if (!code)
        code = ivon_sink_commit(sink, error);
    ivon_sink_close(sink);
    free(model);
    free(beside);
    return code;
}

int merge_write_adapters(struct merge_command *command, const char *provenance,
                         struct ivon_error *error)
{
    int code = 0;
    for (size_t s = 0; s < command->scale_count && !code; s++) {
        struct ivon_source *source = NULL;
        char *config = NULL;
        code = ivon_extraction_finish(command->extractions[s], &source, &config, error);
        if (!code)
            code = adapter_write(command, command->outputs[s], source, config, provenance, error);
        ivon_source_close(source);
        free(config);
    }
    return code;
}

/* The error of all layers together, relative to the norm of all. */
static double adapter_error(const struct ivon_extracted *tensors, size_t count)
{
    double whole = 0, lost = 0;
    for (size_t i = 0; i < count; i++) {
        double norm = tensors[i].rank ? tensors[i].norm : 0, cut = norm * tensors[i].error;
        whole += norm * norm;
        lost += cut * cut;
    }
    return whole > 0 ? sqrt(lost / whole) : 0;
}

json_t *merge_adapter_json(const struct merge_command *command, size_t scale)
{
    size_t count;
    const struct ivon_extracted *tensors = ivon_extraction_tensors(command->extractions[scale],
                                                                   &count);
    json_t *adapter = json_object(), *layers = json_array(), *whole = json_array();
    json_object_set_new(adapter, "rank", json_integer(command->lora_rank));
    json_object_set_new(adapter, "error", json_real(adapter_error(tensors, count)));
    for (size_t i = 0; i < count; i++) {
        if (!tensors[i].rank) {
            json_array_append_new(whole, report_json_text(tensors[i].name));
            continue;
        }
        json_t *layer = json_object();
        json_object_set_new(layer, "name", report_json_text(tensors[i].name));
        json_object_set_new(layer, "rank", json_integer((json_int_t)tensors[i].rank));
        json_object_set_new(layer, "norm", report_json_number(tensors[i].norm));
        json_object_set_new(layer, "error", report_json_number(tensors[i].error));
        json_array_append_new(layers, layer);
    }
    json_object_set_new(adapter, "layers", layers);
    json_object_set_new(adapter, "whole", whole);
    return adapter;
}

static void describe_adapter(const char *output, const struct ivon_extracted *tensors, size_t count,
                             int64_t rank, bool verbose)
{
    size_t layers = 0, worst = 0;
    for (size_t i = 0; i < count; i++) {
        layers += tensors[i].rank > 0;
        worst = tensors[i].error > tensors[worst].error ? i : worst;
        if (verbose && tensors[i].rank)
            report_note("%s: '%s': rank %zu, relative error %.6g of a change of norm %.6g", output,
                        tensors[i].name, tensors[i].rank, tensors[i].error, tensors[i].norm);
        else if (verbose)
            report_note("%s: '%s': stands whole", output, tensors[i].name);
    }
    char whole[64] = "";
    if (layers < count)
        snprintf(whole, sizeof whole, "; %zu other tensor%s whole", count - layers,
                 count - layers == 1 ? " stands" : "s stand");
    report_note("%s: an adapter of rank %lld for %zu matri%s, relative error %.3g, the largest "
                "%.3g of '%s'%s",
                output, (long long)rank, layers, layers == 1 ? "x" : "ces",
                adapter_error(tensors, count), tensors[worst].error, tensors[worst].name, whole);
}

void merge_describe_adapters(const struct merge_command *command)
{
    for (size_t s = 0; s < command->scale_count; s++) {
        size_t count;
        const struct ivon_extracted *tensors = ivon_extraction_tensors(command->extractions[s],
                                                                       &count);
        describe_adapter(command->outputs[s], tensors, count, command->lora_rank,
                         command->common.verbose);
    }
}
