#include "formats/torch/torch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "core/stream.h"
#include "formats/posterior/buffers.h"
#include "formats/torch/private.h"

enum { DEFAULT_MEMORY = 64 << 20, LINE = 640 };

struct torch_source {
    struct torch_archive archive;
    struct torch_tensor *tensors; /* in the source's order */
};

static int source_read(void *self, size_t tensor, size_t first, size_t count, void *buffer,
                       struct ivon_error *error)
{
    struct torch_source *source = self;
    return torch_elements_read(&source->archive, &source->tensors[tensor], first, count, buffer,
                               error);
}

static const void *source_view(void *self, size_t tensor)
{
    struct torch_source *source = self;
    return torch_elements_view(&source->archive, &source->tensors[tensor]);
}

static void source_advise(void *self, size_t tensor, size_t first, size_t count, int advice)
{
    struct torch_source *source = self;
    torch_elements_advise(&source->archive, &source->tensors[tensor], first, count, advice);
}

static void source_close(void *self)
{
    struct torch_source *source = self;
    torch_archive_close(&source->archive);
    free(source->tensors);
    free(source);
}

/* The state of reading a file, before it becomes a source. */
struct reading {
    struct torch_source *source;
    const struct ivon_open_options *options;
    const struct ivon_source *model; /* null, or what an optimizer alone is of */
    bool keep_names;
    struct torch_state state;
    struct torch_optimizer optimizer;
    bool has_optimizer;
    enum torch_rule rule;
    struct tensor_list tensors;
    struct ivon_header header;
    char mapping[LINE], warning[LINE];
};

static int map(struct reading *reading, struct ivon_error *error)
{
    struct torch_state *state = &reading->state;
    const struct torch_optimizer *optimizer = &reading->optimizer;
    bool adam = reading->options->hessian_from == IVON_HESSIAN_FROM_ADAM;
    int code = torch_map_names(state, optimizer, reading->options, &reading->rule, error);
    if (!code && reading->rule == TORCH_NO_RULE && !adam && !state->elsewhere)
        code = torch_map_offsets(state, optimizer, &reading->rule, error);
    if (!code && reading->rule == TORCH_NO_RULE) {
        reading->rule = TORCH_BY_ORDER;
        code = adam ? torch_map_shapes(state, optimizer, error)
                    : torch_map_order(state, optimizer, error);
    }
    return code;
}

/* Finds the optimizer's state; found->node is null when there is none and none is needed. */
static int find_optimizer(const struct reading *reading, struct pickle_node *root,
                          struct torch_found *found, struct ivon_error *error)
{
    const char *path = reading->source->archive.file.path;
    bool adam = reading->options->hessian_from == IVON_HESSIAN_FROM_ADAM;
    int code = torch_find_optimizer(root, adam, path, found, error);
    if (code || found->node)
        return code;
    if (adam)
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: holds no state of Adam, that is, a dict with param_groups and a "
                              "state with exp_avg_sq",
                              path);
    return reading->options->parameters && !reading->options->for_several
               ? ivon_error_set(error, IVON_ERROR_DATA,
                                "%s: holds no state of the optimizer IVON, whose parameters are "
                                "listed",
                                path)
               : 0;
}

/* The tensors: the file's own; or, where it has an optimizer's state alone, the model's. */
static int torch_read_state(struct reading *reading, struct pickle_node *root,
                            const struct torch_found *optimizer, struct ivon_error *error)
{
    struct torch_archive *archive = &reading->source->archive;
    struct torch_found found = {0};
    if (reading->model && optimizer->node && !torch_has_state(root))
        return torch_state_of(&reading->state, reading->model, error);
    int code = torch_find_state(root, reading->model ? NULL : reading->options->key,
                                archive->file.path, &found, error);
    if (!code)
        code = torch_state_read(&reading->state, archive, &found, reading->options,
                                reading->keep_names, error);
    free(found.path);
    return code;
}

static int read_optimizer(struct reading *reading, const struct torch_found *found,
                          struct ivon_error *error)
{
    struct torch_archive *archive = &reading->source->archive;
    bool adam = reading->options->hessian_from == IVON_HESSIAN_FROM_ADAM;
    if (!found->node)
        return 0;
    reading->has_optimizer = true;
    int code = adam ? torch_adam_read(&reading->optimizer, archive, found, reading->options->batch,
                                      error)
                    : torch_ivon_read(&reading->optimizer, archive, found, error);
    return code ? code : map(reading, error);
}

static int read_pickle(struct reading *reading, struct ivon_error *error)
{
    struct torch_archive *archive = &reading->source->archive;
    const char *path = archive->file.path;
    size_t memory = reading->options->resources.memory ? reading->options->resources.memory
                                                       : DEFAULT_MEMORY,
           size;
    unsigned char *copy = NULL;
    const unsigned char *data;
    char *name = NULL;
    struct pickle *pickle = NULL;
    struct torch_found optimizer = {0};
    int code = torch_archive_pickle(archive, memory, &data, &size, &copy, error);
    if (!code) {
        name = malloc(strlen(path) + strlen(archive->prefix) + sizeof ": 'data.pkl'");
        code = name ? 0 : ivon_error_memory(error);
    }
    if (!code) {
        sprintf(name, "%s: '%sdata.pkl'", path, archive->prefix);
        code = pickle_parse(&pickle, name, data, size, error);
    }
    if (!code)
        code = find_optimizer(reading, pickle_root(pickle), &optimizer, error);
    if (!code)
        code = torch_read_state(reading, pickle_root(pickle), &optimizer, error);
    if (!code)
        code = read_optimizer(reading, &optimizer, error);
    free(optimizer.path);
    pickle_free(pickle);
    free(name);
    free(copy);
    return code;
}

static int torch_add_tensor(struct reading *reading, enum ivon_part part,
                            const struct torch_entry *entry, const struct torch_tensor *tensor,
                            struct ivon_error *error)
{
    struct ivon_tensor listed = {.name = entry->name,
                                 .part = part,
                                 .dtype = entry->stored_as ? IVON_U8 : torch_tensor_dtype(tensor),
                                 .rank = entry->stored_as ? -1 : tensor->rank,
                                 .stored_as = entry->stored_as,
                                 .ess = NAN,
                                 .weight_decay = NAN};
    if (!tensor_name_valid(entry->name))
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: '%s' is not a usable name for a tensor",
                              reading->state.path, entry->name);
    memcpy(listed.shape, tensor->shape, sizeof listed.shape);
    if (part == IVON_HESSIAN) {
        listed.ess = reading->optimizer.groups[entry->group].ess;
        listed.weight_decay = reading->optimizer.groups[entry->group].weight_decay;
    }
    reading->source->tensors[reading->tensors.count] = *tensor;
    return tensor_list_append(&reading->tensors, &listed, error);
}

/* The entry's part of its group's Hessian or momentum; false when it has none. */
static bool find_part(const struct reading *reading, const struct torch_entry *entry,
                      enum ivon_part part, struct torch_tensor *tensor)
{
    if (entry->group < 0)
        return false;
    const struct torch_group *group = &reading->optimizer.groups[entry->group];
    if (reading->optimizer.moments) {
        *tensor = reading->optimizer.moments[entry->place].tensor;
        return part == IVON_HESSIAN && reading->optimizer.moments[entry->place].known;
    }
    *tensor = torch_tensor_slice(part == IVON_HESSIAN ? &group->hessian : &group->momentum,
                                 entry->place, &entry->tensor);
    return part == IVON_HESSIAN || group->has_momentum;
}

static int torch_list_tensors(struct reading *reading, struct ivon_error *error)
{
    const struct torch_state *state = &reading->state;
    int code = 0;
    reading->source->tensors = calloc(3 * state->count + 1, sizeof *reading->source->tensors);
    if (!reading->source->tensors)
        return ivon_error_memory(error);
    for (size_t i = 0; i < state->count && !code && !state->elsewhere; i++) {
        const struct torch_entry *entry = &state->entries[i];
        if (entry->role == TORCH_TIED)
            code = tensor_list_alias(&reading->tensors, entry->name,
                                     state->entries[entry->tied_to].name, error);
        else
            code = torch_add_tensor(reading,
                                    entry->role == TORCH_OPAQUE   ? IVON_OPAQUE
                                    : entry->role == TORCH_BUFFER ? IVON_BUFFER
                                                                  : IVON_MEAN,
                                    entry, &entry->tensor, error);
    }
    for (enum ivon_part part = IVON_HESSIAN; part <= IVON_MOMENTUM; part++) {
        for (size_t i = 0; i < state->count && !code; i++) {
            struct torch_tensor tensor;
            if (find_part(reading, &state->entries[i], part, &tensor))
                code = torch_add_tensor(reading, part, &state->entries[i], &tensor, error);
        }
    }
    return code ? code : buffers_settle(&reading->tensors, error);
}

static bool same(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}

/* Fills the header: a number that all groups agree on holds for the checkpoint. */
static void fill_header(struct reading *reading)
{
    const struct torch_optimizer *optimizer = &reading->optimizer;
    struct ivon_header *header = &reading->header;
    *header = ivon_header_empty();
    header->step = reading->has_optimizer ? optimizer->step : -1;
    for (size_t g = 0; g < optimizer->group_count; g++) {
        const struct torch_group *group = &optimizer->groups[g], *first = &optimizer->groups[0];
        header->ess = same(group->ess, first->ess) ? header->ess : INFINITY;
        header->weight_decay = same(group->weight_decay, first->weight_decay) ? header->weight_decay
                                                                              : INFINITY;
    }
    bool any = optimizer->group_count > 0;
    header->ess = any && isnan(header->ess) ? optimizer->groups[0].ess : NAN;
    header->weight_decay = any && isnan(header->weight_decay) ? optimizer->groups[0].weight_decay
                                                              : NAN;
}

/* By which rule, for the header. */
static void torch_set_mapping(struct reading *reading)
{
    static const char *const rules[] = {[TORCH_BY_LIST] = "the list of parameters",
                                        [TORCH_BY_PARAMS] = "the names in params",
                                        [TORCH_BY_PARAM_NAMES] = "param_names",
                                        [TORCH_BY_OFFSETS] = "storage offsets",
                                        [TORCH_BY_ORDER] = "the order of the state dict"};
    const struct torch_state *state = &reading->state;
    size_t groups = reading->optimizer.group_count, mapped = 0, tied = 0, last = 0;
    for (size_t i = 0; i < state->count; i++) {
        mapped += state->entries[i].group >= 0;
        tied += state->entries[i].role == TORCH_TIED;
        last = state->entries[i].role == TORCH_TIED ? i : last;
    }
    size_t length = 0;
    if (reading->has_optimizer)
        length = (size_t)snprintf(
            reading->mapping, LINE, "Hessian mapped to names by %s, %zu tensor%s in %zu group%s",
            rules[reading->rule], mapped, mapped == 1 ? "" : "s", groups, groups == 1 ? "" : "s");
    else
        length = (size_t)snprintf(reading->mapping, LINE,
                                  "no Hessian: the file has no state of the optimizer IVON");
    if (tied)
        snprintf(reading->mapping + length, LINE - length,
                 "; %zu tied tensor%s under the first name only ('%.200s' under '%.200s')", tied,
                 tied == 1 ? "" : "s", state->entries[last].name,
                 state->entries[state->entries[last].tied_to].name);
    reading->header.mapping = reading->mapping;
}

static void torch_set_warning(struct reading *reading)
{
    const char *warning = NULL;
    if (!reading->has_optimizer)
        return;
    if (reading->optimizer.moments)
        warning =
            "the Hessian is estimated from Adam's second moments, which contain the square of "
            "the mean gradient too";
    else if (!reading->state.elsewhere && !torch_is_flat(&reading->state, &reading->optimizer))
        warning = "the weights do not share a storage as they do after a step: if they were saved "
                  "inside sampled_params(), they are a sample and not the mean";
    if (!warning)
        return;
    snprintf(reading->warning, LINE, "%s", warning);
    reading->header.warning = reading->warning;
}

static int torch_finish(struct reading *reading, struct ivon_source **source,
                        struct ivon_error *error)
{
    static const struct ivon_source_class class = {
        .read = source_read, .view = source_view, .advise = source_advise, .close = source_close};
    torch_state_settle(&reading->state, reading->has_optimizer);
    int code = torch_list_tensors(reading, error);
    if (code)
        return code;
    const char *path = reading->source->archive.file.path;
    fill_header(reading);
    torch_set_mapping(reading);
    torch_set_warning(reading);
    return ivon_source_new(source, &class, reading->source, path, &reading->header,
                           &reading->tensors, error);
}

static int torch_open_file(struct ivon_source **source, struct mapped_file *mapped,
                           const struct reading *how, struct ivon_error *error)
{
    struct reading *reading = malloc(sizeof *reading);
    struct torch_source *self = calloc(1, sizeof *self);
    if (!reading || !self) {
        free(reading);
        free(self);
        mapped_close(mapped);
        return ivon_error_memory(error);
    }
    *reading = *how;
    reading->source = self;
    int code = torch_archive_open(&self->archive, mapped, error);
    bool open = !code;
    if (!code)
        code = read_pickle(reading, error);
    if (!code)
        code = torch_finish(reading, source, error);
    torch_state_release(&reading->state);
    torch_optimizer_release(&reading->optimizer);
    tensor_list_release(&reading->tensors);
    free(reading);
    if (code && open)
        source_close(self);
    else if (code)
        free(self);
    return code;
}

int torch_open(struct ivon_source **source, struct mapped_file *mapped,
               const struct ivon_open_options *options, struct ivon_error *error)
{
    return torch_open_file(source, mapped, &(struct reading){.options = options}, error);
}

int torch_open_optimizer(struct ivon_source **source, struct mapped_file *mapped,
                         const struct ivon_open_options *options, const struct ivon_source *model,
                         struct ivon_error *error)
{
    return torch_open_file(source, mapped, &(struct reading){.options = options, .model = model},
                           error);
}

int torch_open_shard(struct ivon_source **source, struct mapped_file *mapped,
                     const struct ivon_open_options *options, struct ivon_error *error)
{
    return torch_open_file(source, mapped,
                           &(struct reading){.options = options, .keep_names = true}, error);
}
