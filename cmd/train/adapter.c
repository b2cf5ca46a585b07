/* Low-rank factors: which weights have them, and the adapter that they are in the end. */
#define _GNU_SOURCE
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"
#include "cmd/train/train.h"
#include "ivon/convert.h"
#include "ivon/directory.h"

enum { RANK_MAX = 1 << 16 };

void train_lora_add(struct train_lora *lora, struct argp_state *state, const char *argument)
{
    size_t count = lora->count + 1;
    const char *colon = strrchr(argument, ':');
    if (!colon || colon == argument)
        argp_failure(state, EX_USAGE, 0, "--lora: '%s', expected GLOB:RANK", argument);
    lora->rules = xreallocarray(lora->rules, count, sizeof *lora->rules);
    struct train_lora_rule *rule = &lora->rules[lora->count++];
    *rule = (struct train_lora_rule){.text = argument,
                                     .glob = xstrndup(argument, (size_t)(colon - argument))};
    rule->rank = (int64_t)option_whole(state, "--lora", colon + 1, 0, RANK_MAX);
}

int64_t train_lora_rank(void *context, const char *name)
{
    struct train_lora *lora = context;
    for (size_t i = 0; i < lora->count; i++)
        if (fnmatch(lora->rules[i].glob, name, 0) == 0) {
            lora->rules[i].matched = true;
            return lora->rules[i].rank;
        }
    return 0;
}

void train_lora_warn_unused(const struct train_lora *lora)
{
    for (size_t i = 0; i < lora->count; i++)
        if (!lora->rules[i].matched)
            report_warning("--lora: '%s' is the first to match no tensor", lora->rules[i].text);
}

json_t *train_lora_json(const struct ivon_train_options *options)
{
    const struct train_lora *lora = options->lora_context;
    json_t *list = lora ? json_array() : json_null();
    for (size_t i = 0; lora && i < lora->count; i++)
        json_array_append_new(list, report_json_text(lora->rules[i].text));
    return list;
}

void train_lora_release(struct train_lora *lora)
{
    for (size_t i = 0; i < lora->count; i++)
        free(lora->rules[i].glob);
    free(lora->rules);
}

/* The factors and their Hessians, without momenta, the base and the graph. */
static size_t adapter_list(const struct ivon_source *source, struct ivon_tensor *tensors,
                           size_t *from)
{
    size_t count = 0;
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        if (tensor->part != IVON_MEAN && tensor->part != IVON_HESSIAN)
            continue;
        from[count] = i;
        tensors[count++] = *tensor;
    }
    return count;
}

static int adapter_copy(struct ivon_source *source, size_t index, struct ivon_sink *sink,
                        size_t place, struct ivon_error *error)
{
    const struct ivon_tensor *tensor = ivon_source_tensor(source, index);
    void *data = memory_of(malloc(tensor->count * ivon_dtype_size(tensor->dtype) + 1));
    int code = ivon_source_read(source, index, 0, tensor->count, data, error);
    if (!code && tensor->count)
        code = ivon_sink_write(sink, place, 0, tensor->count, data, error);
    free(data);
    return code;
}

static int adapter_write(struct ivon_directory *directory, struct ivon_source *source,
                         const char *provenance, const char *config, struct ivon_error *error)
{
    struct ivon_create_options options = {.size = sizeof options, .framework = "pt"};
    struct ivon_header header = *ivon_source_header(source);
    size_t most = ivon_source_tensor_count(source) + 1;
    struct ivon_tensor *tensors = xcalloc(most, sizeof *tensors);
    size_t *from = xcalloc(most, sizeof *from), count = adapter_list(source, tensors, from);
    struct ivon_sink *sink = NULL;
    char creator[64];
    snprintf(creator, sizeof creator, "ivon-train %s", ivon_version());
    header.creator = creator;
    header.provenance = provenance;
    const char *path = ivon_directory_weights(directory, IVON_DIRECTORY_ADAPTER);
    int code = path ? ivon_checkpoint_create(&sink, path, &header, tensors, count, &options, error)
                    : error_memory(error);
    for (size_t i = 0; i < count && !code; i++)
        code = adapter_copy(source, from[i], sink, i, error);
    if (!code)
        code = ivon_directory_write(directory, "adapter_config.json", config, strlen(config),
                                    error);
    if (!code)
        code = ivon_directory_commit(directory, sink, error);
    ivon_sink_close(sink);
    free(tensors);
    free(from);
    return code;
}

int train_write_adapter(const struct train_command *command, struct ivon_error *error)
{
    const struct ivon_method_traits *traits = ivon_method_traits(command->options.method);
    const char *base = command->from ? command->from : command->evaluation.model;
    struct ivon_source *state = NULL, *reduced = NULL;
    struct ivon_directory *directory = NULL;
    char *config = NULL;
    int code = ivon_trainer_adapter(command->trainer, base, &config, error);
    if (!code)
        code = ivon_trainer_source(&state, command->trainer, NULL, 0, error);
    if (!code && traits->posterior && traits->bases)
        code = ivon_reduce(&reduced, state, NULL, error);
    if (!code)
        code = ivon_directory_create(&directory, command->directory, true, error);
    if (!code)
        code = adapter_write(directory, reduced ? reduced : state, command->provenance, config,
                             error);
    ivon_directory_close(directory);
    ivon_source_close(reduced);
    ivon_source_close(state);
    free(config);
    return code;
}
