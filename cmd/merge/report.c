#include "cmd/merge/evaluate.h"

#include "cmd/shared/report.h"

struct tally {
    size_t tensors[3]; /* per fate */
    uint64_t parameters[3];
};

const char *merge_fate_name(enum ivon_merge_fate fate)
{
    static const char *const fates[] = {"merged", "kept", "skipped"};
    return fates[fate];
}

static struct tally count_fates(const struct ivon_merge *merge)
{
    size_t count;
    struct tally tally = {0};
    const struct ivon_merge_tensor *tensors = ivon_merge_tensors(merge, &count);
    for (size_t i = 0; i < count; i++) {
        tally.tensors[tensors[i].fate]++;
        tally.parameters[tensors[i].fate] += tensors[i].count;
    }
    return tally;
}

static json_t *result_json(const struct merge_command *command, size_t scale)
{
    struct ivon_header header = ivon_merge_header(command->merge, scale);
    json_t *result = json_object(), *models = json_array();
    double total = 0;
    json_object_set_new(result, "output", report_json_text(command->outputs[scale]));
    if (!command->options.vectors)
        json_object_set_new(result, "scale", json_real(command->scales[scale]));
    json_object_set_new(result, "ess", report_json_number(header.ess));
    json_object_set_new(result, "weight_decay", report_json_number(header.weight_decay));
    if (command->dry_run) {
        json_decref(models);
        return result;
    }
    json_object_set_new(
        result, "nonpositive",
        json_integer((json_int_t)ivon_merge_nonpositive_count(command->merge, scale)));
    for (size_t t = 0; t < command->model_count; t++) {
        json_t *model = json_object();
        json_object_set_new(model, "path", report_json_text(command->models[t].path));
        double factor = command->options.vectors ? merge_factor(command, scale, t) : 1;
        json_object_set_new(model, "weight", json_real(factor * command->models[t].weight));
        json_object_set_new(
            model, "moved",
            report_json_number(ivon_merge_movement(command->merge, t, scale, &total)));
        json_array_append_new(models, model);
    }
    json_object_set_new(result, "models", models);
    if (command->base_path)
        json_object_set_new(result, "moved", report_json_number(total));
    if (command->extractions)
        json_object_set_new(result, "adapter", merge_adapter_json(command, scale));
    return result;
}

/* The tensors whose means were solved for. */
static json_t *solves_json(const struct ivon_merge *merge)
{
    size_t count;
    const struct ivon_merge_solve *solves = ivon_merge_solves(merge, &count);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *solve = json_object();
        json_object_set_new(solve, "name",
                            solves[i].name ? report_json_text(solves[i].name) : json_null());
        json_object_set_new(solve, "iterations", json_integer((json_int_t)solves[i].iterations));
        json_object_set_new(solve, "converged", json_boolean(solves[i].converged));
        json_array_append_new(list, solve);
    }
    return list;
}

void merge_print_json(const struct merge_command *command)
{
    struct tally tally = count_fates(command->merge);
    json_t *summary = json_object(), *results = json_array(), *list = json_array();
    for (int fate = 0; fate < 3; fate++) {
        json_t *counts = json_object();
        json_object_set_new(counts, "tensors", json_integer((json_int_t)tally.tensors[fate]));
        json_object_set_new(counts, "parameters", json_integer((json_int_t)tally.parameters[fate]));
        json_object_set_new(summary, merge_fate_name((enum ivon_merge_fate)fate), counts);
    }
    size_t count;
    const struct ivon_merge_tensor *tensors = ivon_merge_tensors(command->merge, &count);
    for (size_t i = 0; i < count; i++) {
        if (tensors[i].fate == IVON_MERGED)
            continue;
        json_t *tensor = json_object();
        json_object_set_new(tensor, "name", report_json_text(tensors[i].name));
        json_object_set_new(tensor, "fate", json_string(merge_fate_name(tensors[i].fate)));
        json_object_set_new(tensor, "reason", report_json_text(tensors[i].reason));
        json_array_append_new(list, tensor);
    }
    json_object_set_new(summary, "not_merged", list);
    for (size_t s = 0; s < command->scale_count; s++)
        json_array_append_new(results, result_json(command, s));
    json_object_set_new(summary, "results", results);
    if (command->evaluated)
        json_object_set_new(summary, "evaluated", merge_table_json(command));
    json_object_set_new(summary, "solved", solves_json(command->merge));
    report_json_line(summary);
}

static void warn_of_ties(const struct ivon_merge *merge)
{
    size_t count;
    const struct ivon_merge_tie *ties = ivon_merge_ties(merge, &count);
    if (count)
        report_warning(
            "%zu name%s that an input lacks %s taken for a second name: '%s' is '%s' bit "
            "by bit in %s",
            count, count == 1 ? "" : "s", count == 1 ? "was" : "were", ties[0].name, ties[0].other,
            ties[0].path);
}

static void warn_of_weights(const struct merge_command *command)
{
    for (size_t t = 0; t < command->model_count; t++) {
        const char *unused = weight_rules_unused(&command->models[t].rules);
        if (unused) {
            report_warning("pattern '%s' of the weights of %s matches no tensor that is merged",
                           unused, command->models[t].path);
            return;
        }
    }
}

static void warn_of_vocabulary(const struct ivon_merge *merge)
{
    size_t count, found = 0;
    const struct ivon_merge_tensor *tensors = ivon_merge_tensors(merge, &count), *first = NULL;
    for (size_t i = 0; i < count; i++)
        if (tensors[i].others_from && !found++)
            first = &tensors[i];
    if (first)
        report_warning("vocabularies differ: of %zu tensor%s, '%s' the first, the first %zu rows "
                       "are merged, and the other %zu are those of %s",
                       found, found == 1 ? "" : "s", first->name, first->merged_rows,
                       first->other_rows, first->others_from);
}

static void warn_of_solves(const struct ivon_merge *merge)
{
    size_t count;
    const struct ivon_merge_solve *solves = ivon_merge_solves(merge, &count);
    for (size_t i = 0; i < count; i++)
        if (!solves[i].converged)
            report_warning("%s%s%s: not converged after %zu iterations",
                           solves[i].name ? "tensor '" : "all tensors at once",
                           solves[i].name ? solves[i].name : "", solves[i].name ? "'" : "",
                           solves[i].iterations);
}

void merge_print_warnings(const struct merge_command *command)
{
    size_t buffers;
    const char *buffer = ivon_merge_buffer_conflict(command->merge, &buffers);
    struct tally tally = count_fates(command->merge);
    name_filter_warn_unused(&command->filter);
    open_warn_unused(&command->open);
    merge_folder_print_warnings(command);
    if (rename_unused(&command->rules))
        report_warning("--rename: '%s' matches no tensor of a model",
                       rename_unused(&command->rules));
    warn_of_weights(command);
    warn_of_ties(command->merge);
    warn_of_vocabulary(command->merge);
    warn_of_solves(command->merge);
    if (command->options.on_mismatch != IVON_MISMATCH_ERROR &&
        tally.tensors[IVON_KEPT] + tally.tensors[IVON_SKIPPED])
        report_warning("%zu tensors kept as they were, %zu left out; --json lists them",
                       tally.tensors[IVON_KEPT], tally.tensors[IVON_SKIPPED]);
    if (buffer)
        report_warning("%zu buffer%s differ%s between the inputs, '%s' the first; %s's %s kept: "
                       "what are running statistics should be computed again",
                       buffers, buffers == 1 ? "" : "s", buffers == 1 ? "s" : "", buffer,
                       command->base_path ? "the base" : "the first model",
                       buffers == 1 ? "was" : "were");
    if (command->evaluated)
        merge_table_warn(command->evaluated);
    for (size_t s = 0; s < command->scale_count && !command->dry_run; s++) {
        uint64_t count = ivon_merge_nonpositive_count(command->merge, s);
        if (count)
            report_warning("%s: %llu elements kept the base's mean and precision, as the merged "
                           "precision was not positive",
                           command->outputs[s], (unsigned long long)count);
    }
}

void merge_describe(const struct merge_command *command)
{
    struct tally tally = count_fates(command->merge);
    char parameters[32], bytes[32];
    report_note("%s %zu tensors with %s parameters, kept %zu, left out %zu; %s of input",
                command->dry_run ? "would merge" : "merged", tally.tensors[IVON_MERGED],
                report_count(tally.parameters[IVON_MERGED], parameters), tally.tensors[IVON_KEPT],
                tally.tensors[IVON_SKIPPED],
                report_bytes((double)ivon_merge_input_bytes(command->merge), bytes));
}
