/* ivon-convert: which tensors the output has, and what they are called. */
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/convert/convert.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

struct renamed {
    enum ivon_part part;
    const char *name, *old;
};

static int compare_renamed(const void *a, const void *b)
{
    const struct renamed *left = a, *right = b;
    if (left->part != right->part)
        return left->part < right->part ? -1 : 1;
    int order = strcmp(left->name, right->name);
    return order ? order : strcmp(left->old, right->old);
}

/* That no two tensors of a part have one name. */
static int convert_check_names(const struct convert_command *command, struct ivon_error *error)
{
    int code = 0;
    struct renamed *names = xcalloc(command->choice_count + 1, sizeof *names);
    for (size_t i = 0; i < command->choice_count; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(command->source,
                                                              command->choices[i].tensor);
        names[i] = (struct renamed){tensor->part, command->choices[i].name, tensor->name};
    }
    qsort(names, command->choice_count, sizeof *names, compare_renamed);
    for (size_t i = 1; i < command->choice_count && !code; i++)
        if (names[i].part == names[i - 1].part && strcmp(names[i].name, names[i - 1].name) == 0)
            code = error_fill(error, IVON_ERROR_ARGUMENT,
                              "--rename: tensors '%s' and '%s' would both be '%s'",
                              names[i - 1].old, names[i].old, names[i].name);
    free(names);
    return code;
}

bool convert_part_is_bytes(enum ivon_part part)
{
    return part == IVON_GRAPH || part == IVON_STRUCTURE;
}

static size_t convert_count_vectors(const struct ivon_source *source)
{
    size_t count = 0;
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++)
        count += ivon_source_tensor(source, i)->part == IVON_LOW_RANK;
    return count;
}

/* That the structure of the covariance, which names tensors, still holds of the chosen ones. */
static int convert_check_structure(const struct convert_command *command, struct ivon_error *error)
{
    struct ivon_structure before, after;
    int code = ivon_structure_describe(&before, command->source, error);
    if (code)
        return code;
    double found = ivon_source_header(command->source)->weight_decay;
    double given = command->given.weight_decay;
    if (before.rank && !isnan(given) && !isnan(found) && given != found)
        return error_fill(error, IVON_ERROR_DATA,
                          "%s: its low-rank correction was made for weight decay %g: "
                          "--weight-decay cannot change it",
                          command->input, found);
    struct ivon_error why = {0};
    size_t vectors = convert_count_vectors(command->chosen);
    if (ivon_structure_describe(&after, command->chosen, &why))
        return error_fill(error, IVON_ERROR_DATA,
                          "%s (--rename, --include and --exclude have to leave what structure.json "
                          "names)",
                          why.message);
    return vectors && vectors < convert_count_vectors(command->source)
               ? error_fill(error, IVON_ERROR_DATA,
                            "%s: its low-rank correction is of all tensors: --include and "
                            "--exclude cannot take it apart",
                            command->input)
               : 0;
}

struct ivon_header convert_header(const struct convert_command *command)
{
    struct ivon_header header = command->means ? ivon_header_empty()
                                               : *ivon_source_header(command->source);
    const struct ivon_header *given = &command->given;
    if (!isnan(given->ess))
        header.ess = given->ess;
    if (!isnan(given->weight_decay)) {
        header.weight_decay = given->weight_decay;
        header.decrement = NAN;
    }
    if (given->n_train >= 0)
        header.n_train = given->n_train;
    if (given->step >= 0)
        header.step = given->step;
    return header;
}

/* Returns whether the output is to have a tensor, if its format holds that. Means alone have the
   graph where the format, ONNX, is nothing without one. */
static bool convert_selects(struct convert_command *command, const struct ivon_tensor *tensor)
{
    static const struct ivon_tensor hessian = {.name = "any", .part = IVON_HESSIAN};
    if (tensor->part == IVON_STRUCTURE)
        return !command->means;
    if (tensor->part == IVON_GRAPH)
        return !command->model &&
               (!command->means ||
                !ivon_checkpoint_carries(command->output, &command->create, &hessian));
    return name_filter_selects(&command->filter, ivon_tensor_bare_name(tensor)) &&
           (!command->means || tensor->part == IVON_MEAN || tensor->part == IVON_BUFFER ||
            tensor->part == IVON_OPAQUE);
}

int convert_choose(struct convert_command *command, struct ivon_error *error)
{
    size_t count = ivon_source_tensor_count(command->source), tensors = 0;
    command->choices = xcalloc(count + 1, sizeof *command->choices);
    command->create.like = command->opened;
    for (size_t i = 0; i < count; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(command->source, i);
        bool bytes = convert_part_is_bytes(tensor->part);
        if (!convert_selects(command, tensor))
            continue;
        bool carried = ivon_checkpoint_carries(command->output, &command->create, tensor);
        if (!carried && tensor->part != IVON_OPAQUE) {
            command->left_out[tensor->part]++;
            continue;
        }
        if (!carried)
            return error_fill(error, IVON_ERROR_DATA,
                              "%s: tensor '%s' is stored as %s, which is not read here and '%s' "
                              "cannot hold: leave it out by --exclude",
                              command->input, tensor->name, tensor->stored_as, command->output);
        char *name = bytes ? xstrdup(tensor->name) : rename_apply(&command->rules, tensor->name);
        command->choices[command->choice_count++] = (struct ivon_subset_item){i, name};
        tensors += !bytes;
    }
    if (!command->choice_count || (command->filter.count && !tensors))
        return error_fill(error, IVON_ERROR_DATA,
                          "%s: no tensor is selected (see --include and --exclude)",
                          command->input);
    int code = convert_check_names(command, error);
    if (code)
        return code;
    struct ivon_header header = convert_header(command);
    struct ivon_source *chosen = NULL;
    code = ivon_tensor_subset(&chosen, command->source, &header, command->choices,
                              command->choice_count, error);
    command->chosen = chosen;
    return code || command->means ? code : convert_check_structure(command, error);
}
