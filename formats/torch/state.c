/* The state dict: names, and what each tensor is to the model as far as it says itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "formats/io/strings.h"
#include "formats/posterior/buffers.h"
#include "formats/torch/private.h"

size_t torch_prefix(const struct torch_text *names, size_t count)
{
    static const char wrapper[] = "module.";
    static const size_t length = sizeof wrapper - 1, most = 16 * (sizeof wrapper - 1);
    size_t skip = 0;
    for (; count && skip < most; skip += length)
        for (size_t i = 0; i < count; i++)
            if (names[i].length <= skip + length ||
                memcmp(names[i].start + skip, wrapper, length) != 0)
                return skip;
    return skip;
}

size_t torch_unwrap(char *name, size_t length)
{
    static const char *const wrappers[] = {"_orig_mod.", "_fsdp_wrapped_module.",
                                           "_checkpoint_wrapped_module."};
    size_t kept = 0;
    for (size_t at = 0; at < length;) {
        bool begins = !kept || name[kept - 1] == '.';
        size_t wrapper = 0;
        for (size_t i = 0; begins && i < sizeof wrappers / sizeof wrappers[0]; i++) {
            size_t size = strlen(wrappers[i]);
            if (length - at > size && memcmp(name + at, wrappers[i], size) == 0)
                wrapper = size;
        }
        at += wrapper;
        if (!wrapper)
            name[kept++] = name[at++];
    }
    return kept;
}

static int torch_state_strip_wrappers(struct torch_state *state, struct ivon_error *error)
{
    struct torch_text *names = calloc(state->count + 1, sizeof *names);
    if (!names)
        return ivon_error_memory(error);
    for (size_t i = 0; i < state->count; i++) {
        char *name = state->entries[i].name;
        /* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): no entry is unread */
        size_t length = torch_unwrap(name, strlen(name));
        name[length] = '\0';
        names[i] = (struct torch_text){name, length};
    }
    size_t skip = torch_prefix(names, state->count);
    for (size_t i = 0; i < state->count && skip; i++)
        memmove(state->entries[i].name, names[i].start + skip, names[i].length - skip + 1);
    free(names);
    return 0;
}

/* The part of a name after its last dot. */
static const char *last_part(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

static int torch_state_read_entry(struct torch_state *state, struct torch_archive *archive,
                                  struct pickle_node *key, const struct pickle_node *value,
                                  struct ivon_error *error)
{
    char text[PICKLE_DESCRIPTION];
    if (key->kind != PICKLE_STRING || memchr(key->text, '\0', key->length))
        return ivon_error_set(error, IVON_ERROR_DATA,
                              "%s: a name in the state dict is %s, expected a string", state->path,
                              key->kind == PICKLE_STRING ? "a string with a zero byte"
                                                         : pickle_describe(key, text));
    if (key->seen)
        return ivon_error_set(error, IVON_ERROR_DATA, "%s: tensor '%.*s' occurs twice", state->path,
                              key->length < 256 ? (int)key->length : 256, key->text);
    key->seen = true;
    struct torch_entry *entry = &state->entries[state->count];
    entry->name = strndup(key->text, key->length);
    if (!entry->name)
        return ivon_error_memory(error);
    entry->group = -1;
    entry->tied_to = state->count++;
    if (!torch_is_tensor(value) && string_ends_with(entry->name, "_extra_state")) {
        free(entry->name); /* modules' own, which is no tensor */
        state->count--;
        return 0;
    }
    const char *stored_as = torch_opaque(value, text);
    if (!stored_as)
        return torch_tensor_read(archive, value, entry->name, &entry->tensor, error);
    entry->stored_as = strdup(stored_as);
    return entry->stored_as ? 0 : ivon_error_memory(error);
}

/* Two entries are tied when they are the same numbers in the same shape. */
struct place {
    const struct torch_tensor *tensor;
    size_t entry;
};

static int torch_state_compare_tensors(const struct torch_tensor *a, const struct torch_tensor *b)
{
    if (a->storage != b->storage)
        return a->storage < b->storage ? -1 : 1;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    if (a->negated != b->negated)
        return (int)a->negated - (int)b->negated;
    if (a->rank != b->rank || a->stored != b->stored)
        return a->rank != b->rank ? a->rank - b->rank : (int)a->stored - (int)b->stored;
    int order = memcmp(a->shape, b->shape, sizeof a->shape);
    return order ? order : memcmp(a->strides, b->strides, sizeof a->strides);
}

static int torch_state_compare_places(const void *a, const void *b)
{
    const struct place *left = a, *right = b;
    int order = torch_state_compare_tensors(left->tensor, right->tensor);
    return order ? order : (left->entry > right->entry) - (left->entry < right->entry);
}

static int find_ties(struct torch_state *state, struct ivon_error *error)
{
    struct place *places = calloc(state->count + 1, sizeof *places);
    if (!places)
        return ivon_error_memory(error);
    for (size_t i = 0; i < state->count; i++)
        places[i] = (struct place){&state->entries[i].tensor, i};
    qsort(places, state->count, sizeof *places, torch_state_compare_places);
    for (size_t i = 1; i < state->count; i++) {
        struct torch_entry *entry = &state->entries[places[i].entry];
        size_t before = state->entries[places[i - 1].entry].tied_to;
        if (entry->tensor.count &&
            torch_state_compare_tensors(places[i - 1].tensor, places[i].tensor) == 0)
            entry->tied_to = before;
    }
    free(places);
    return 0;
}

/* The role of an entry by its type, its name, its ties and the caller's options. */
static enum torch_role first_role(const struct torch_state *state, size_t i,
                                  const struct ivon_open_options *options)
{
    const struct torch_entry *entry = &state->entries[i];
    if (entry->stored_as)
        return TORCH_OPAQUE;
    if (!ivon_dtype_is_float(entry->tensor.stored) || buffers_statistic(entry->name))
        return TORCH_BUFFER;
    if (options->is_buffer && options->is_buffer(options->is_buffer_context, entry->name))
        return TORCH_BUFFER;
    return entry->tied_to != i ? TORCH_TIED : TORCH_UNKNOWN;
}

int torch_state_read(struct torch_state *state, struct torch_archive *archive,
                     const struct torch_found *found, const struct ivon_open_options *options,
                     bool keep_names, struct ivon_error *error)
{
    const struct pickle_node *node = found->node;
    *state = (struct torch_state){.path = archive->file.path,
                                  .told_buffers = options->is_buffer != NULL};
    state->entries = calloc(node->count / 2 + 1, sizeof *state->entries);
    int code = state->entries ? 0 : ivon_error_memory(error);
    for (size_t i = 0; i < node->count && !code; i += 2)
        code = torch_state_read_entry(state, archive, node->items[i], node->items[i + 1], error);
    if (!code && !keep_names)
        code = torch_state_strip_wrappers(state, error);
    if (!code)
        code = find_ties(state, error);
    for (size_t i = 0; i < state->count && !code; i++)
        state->entries[i].role = first_role(state, i, options);
    for (size_t i = 0; i < state->count && !code; i++) {
        struct torch_entry *entry = &state->entries[i];
        if (entry->role == TORCH_TIED && state->entries[entry->tied_to].role == TORCH_BUFFER) {
            entry->role = TORCH_UNKNOWN; /* the caller called its first name a buffer, not this */
            entry->tied_to = i;
        }
        state->unknown += entry->role == TORCH_UNKNOWN;
    }
    return code;
}

int torch_state_of(struct torch_state *state, const struct ivon_source *model,
                   struct ivon_error *error)
{
    size_t count = ivon_source_tensor_count(model);
    const char *before = NULL;
    *state = (struct torch_state){
        .path = ivon_source_path(model), .elsewhere = true, .sorted = true};
    state->entries = calloc(count + 1, sizeof *state->entries);
    if (!state->entries)
        return ivon_error_memory(error);
    for (size_t i = 0; i < count; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(model, i);
        struct torch_entry *entry = &state->entries[state->count];
        if (tensor->part != IVON_MEAN && tensor->part != IVON_BUFFER)
            continue;
        *entry = (struct torch_entry){
            .name = strdup(tensor->name),
            .tensor = {.stored = tensor->dtype, .rank = tensor->rank, .count = tensor->count},
            .role = tensor->part == IVON_MEAN ? TORCH_UNKNOWN : TORCH_BUFFER,
            .tied_to = state->count,
            .group = -1};
        if (!entry->name)
            return ivon_error_memory(error);
        memcpy(entry->tensor.shape, tensor->shape, sizeof entry->tensor.shape);
        state->count++;
        if (entry->role != TORCH_UNKNOWN)
            continue;
        state->sorted &= !before || strcmp(before, entry->name) <= 0;
        before = entry->name;
        state->unknown++;
    }
    return 0;
}

void torch_state_release(struct torch_state *state)
{
    for (size_t i = 0; state->entries && i < state->count; i++) {
        free(state->entries[i].name);
        free(state->entries[i].stored_as);
    }
    free(state->entries);
    *state = (struct torch_state){0};
}

void torch_assign(struct torch_state *state, size_t entry, size_t group, size_t place)
{
    state->entries[entry].role = TORCH_MEAN;
    state->entries[entry].group = (ptrdiff_t)group;
    state->entries[entry].place = place;
    state->unknown--;
}

/* True if two names are of one module: the text before their last parts is the same. */
static bool same_module(const char *a, const char *b)
{
    size_t length = (size_t)(last_part(a) - a);
    return length == (size_t)(last_part(b) - b) && memcmp(a, b, length) == 0;
}

/*
 * A module lists its parameters before its buffers, so what precedes one of the optimizer's is a
 * parameter that is frozen. So is what has the name of one, as no buffer of PyTorch's own modules
 * has. Seen from the end.
 */
void torch_state_settle(struct torch_state *state, bool has_optimizer)
{
    bool before_parameter = false;
    for (size_t i = state->count; i--;) {
        struct torch_entry *entry = &state->entries[i];
        if (i + 1 < state->count && !same_module(entry->name, entry[1].name))
            before_parameter = false;
        before_parameter |= entry->group >= 0;
        if (entry->role != TORCH_UNKNOWN)
            continue;
        bool is_mean = !has_optimizer || state->told_buffers || before_parameter ||
                       !entry->tensor.count || string_ends_with(entry->name, "weight") ||
                       string_ends_with(entry->name, "bias");
        entry->role = is_mean ? TORCH_MEAN : TORCH_BUFFER;
    }
    for (size_t i = 0; i < state->count; i++) {
        struct torch_entry *entry = &state->entries[i];
        if (entry->role == TORCH_TIED && state->entries[entry->tied_to].role == TORCH_BUFFER)
            entry->role = TORCH_BUFFER; /* buffers keep every name */
    }
    state->unknown = 0;
}

const char *torch_name_list(const struct torch_state *state, const bool *chosen,
                            char text[TORCH_NAMES])
{
    size_t listed = 0, more = 0, length = 0;
    text[0] = '\0';
    for (size_t i = 0; i < state->count; i++) {
        if (!chosen[i])
            continue;
        if (length + strlen(state->entries[i].name) + 30 > TORCH_NAMES) {
            more++;
            continue;
        }
        length += (size_t)snprintf(text + length, TORCH_NAMES - length, "%s'%s'",
                                   listed++ ? ", " : "", state->entries[i].name);
    }
    if (more)
        snprintf(text + length, TORCH_NAMES - length, "%s%zu%s", listed ? " and " : "", more,
                 listed ? " more" : " tensors");
    return text;
}
