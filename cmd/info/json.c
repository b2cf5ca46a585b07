#include "cmd/info/info.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/shared/report.h"

/* Returns whether a part is counted where there is nothing of it, too. */
static bool always_counted(int part)
{
    return part == IVON_MEAN || part == IVON_HESSIAN || part == IVON_MOMENTUM ||
           part == IVON_BUFFER || part == IVON_GRAPH;
}

static json_t *quantiles_json(const double values[IVON_QUANTILE_COUNT])
{
    json_t *object = json_object();
    for (int q = 0; q < IVON_QUANTILE_COUNT; q++) {
        char level[16];
        snprintf(level, sizeof level, "%g", ivon_quantile_levels[q]);
        json_object_set_new(object, level, report_json_number(values[q]));
    }
    return object;
}

static void add_summary(json_t *object, const struct ivon_summary *summary)
{
    json_object_set_new(object, "mean_norm", report_json_number(summary->mean_norm));
    json_object_set_new(object, "mean_nonfinite",
                        json_integer((json_int_t)summary->mean_nonfinite));
    json_object_set_new(object, "hessian_elements",
                        json_integer((json_int_t)summary->hessian_count));
    json_object_set_new(object, "hessian_nonfinite",
                        json_integer((json_int_t)summary->hessian_nonfinite));
    json_object_set_new(object, "nonpositive", json_integer((json_int_t)summary->nonpositive));
    json_object_set_new(object, "hessian_min", report_json_number(summary->hessian_min));
    json_object_set_new(object, "hessian_max", report_json_number(summary->hessian_max));
    json_object_set_new(object, "hessian_quantiles", quantiles_json(summary->hessian_quantiles));
    json_object_set_new(object, "signal_to_noise_quantiles",
                        quantiles_json(summary->signal_to_noise));
    json_object_set_new(object, "hessian_at_start", json_boolean(summary->hessian_at_start));
    json_object_set_new(object, "effective_parameters", report_json_number(summary->effective));
}

static json_t *shape_json(const struct ivon_tensor *tensor)
{
    json_t *shape = json_array();
    for (int i = 0; i < tensor->rank; i++)
        json_array_append_new(shape, json_integer(tensor->shape[i]));
    return shape;
}

static json_t *tensor_json(const struct ivon_source *source, const struct ivon_summary *summary)
{
    const struct ivon_tensor *tensor = info_described(source, summary);
    json_t *object = json_object(), *shape = shape_json(tensor);
    json_object_set_new(object, "name", report_json_text(tensor->name));
    json_object_set_new(object, "dtype", json_string(ivon_dtype_name(tensor->dtype)));
    json_object_set_new(object, "shape", shape);
    json_object_set_new(object, "has_mean", json_boolean(summary->mean != SIZE_MAX));
    json_object_set_new(object, "shapes_differ", json_boolean(summary->shapes_differ));
    json_object_set_new(object, "in_block", json_boolean(summary->in_block));
    add_summary(object, summary);
    return object;
}

static json_t *provenance_json(const char *text)
{
    json_t *value = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    return value ? value : report_json_text(text);
}

/* The tensors that are not read, and how they are stored. */
static json_t *opaque_json(const struct ivon_source *source)
{
    json_t *list = json_array();
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        if (tensor->part != IVON_OPAQUE)
            continue;
        json_t *object = json_object();
        json_object_set_new(object, "name", report_json_text(tensor->name));
        json_object_set_new(object, "stored_as", report_json_text(tensor->stored_as));
        json_object_set_new(object, "shape", tensor->rank < 0 ? json_null() : shape_json(tensor));
        json_array_append_new(list, object);
    }
    return list;
}

static json_t *structure_json(const struct ivon_structure *structure)
{
    return json_pack("{s:s, s:I, s:I, s:{s:I, s:I}}", "base",
                     structure->blocks ? "kronecker" : "diagonal", "blocks",
                     (json_int_t)structure->blocks, "rank", (json_int_t)structure->rank, "memory",
                     "draw", (json_int_t)structure->draw_bytes, "covariance",
                     (json_int_t)structure->covariance_bytes);
}

static json_t *factor_json(const struct ivon_factor *factor, bool checked)
{
    json_t *object = json_object();
    json_object_set_new(object, "rows", json_integer((json_int_t)factor->rows));
    json_object_set_new(object, "rotated", json_boolean(factor->rotated));
    if (factor->rotated && checked)
        json_object_set_new(object, "skew", report_json_number(factor->skew));
    if (!factor->spectrum)
        return object;
    json_object_set_new(object, "min", report_json_number(factor->least));
    json_object_set_new(object, "max", report_json_number(factor->greatest));
    json_object_set_new(object, "quantiles", quantiles_json(factor->quantiles));
    json_object_set_new(object, "rank", json_integer((json_int_t)factor->rank));
    json_object_set_new(object, "negative", json_integer((json_int_t)factor->negative));
    json_object_set_new(object, "nonfinite", json_integer((json_int_t)factor->nonfinite));
    return object;
}

static json_t *block_json(const struct ivon_block *block, bool checked)
{
    json_t *object = json_object();
    json_object_set_new(object, "weight", report_json_text(block->weight));
    json_object_set_new(object, "bias", report_json_text(block->bias));
    json_object_set_new(object, "input_rows", report_json_number(block->input_rows));
    json_object_set_new(object, "input", factor_json(&block->input, checked));
    json_object_set_new(object, "output", factor_json(&block->output, checked));
    return object;
}

/* Adds what is in the tensors of a structure. */
static void add_inspection(json_t *structure, const struct ivon_inspection *inspection,
                           bool checked)
{
    size_t count;
    const struct ivon_block *blocks = ivon_inspect_blocks(inspection, &count);
    const struct ivon_low_rank *low_rank = ivon_inspect_low_rank(inspection);
    json_t *factors = json_array(), *values = json_array();
    for (size_t b = 0; b < count; b++)
        json_array_append_new(factors, block_json(&blocks[b], checked));
    for (size_t k = 0; k < low_rank->rank; k++)
        json_array_append_new(values, report_json_number(low_rank->values[k]));
    json_object_set_new(structure, "factors", factors);
    json_object_set_new(structure, "values", values);
    if (low_rank->rank && checked)
        json_object_set_new(structure, "skew", report_json_number(low_rank->skew));
}

static json_t *header_json(const struct ivon_source *source, const struct ivon_structure *structure)
{
    const struct ivon_header *header = ivon_source_header(source);
    struct info_contents contents = info_count(source);
    json_t *object = json_object();
    json_object_set_new(object, "path", report_json_text(ivon_source_path(source)));
    json_object_set_new(object, "parameters",
                        json_integer((json_int_t)contents.elements[IVON_MEAN]));
    for (int part = 0; part < IVON_PART_COUNT; part++) {
        if (!always_counted(part) && !contents.tensors[part])
            continue;
        json_t *counts = json_object();
        json_object_set_new(counts, "tensors", json_integer((json_int_t)contents.tensors[part]));
        json_object_set_new(counts, "bytes", json_integer((json_int_t)contents.bytes[part]));
        if (part == IVON_OPAQUE)
            json_object_set_new(counts, "list", opaque_json(source));
        json_object_set_new(object, ivon_part_name((enum ivon_part)part), counts);
    }
    json_object_set_new(object, "structure", structure_json(structure));
    json_object_set_new(object, "ess", report_json_number(header->ess));
    json_object_set_new(object, "weight_decay", report_json_number(header->weight_decay));
    json_object_set_new(object, "step",
                        header->step < 0 ? json_null() : json_integer(header->step));
    if (header->mapping)
        json_object_set_new(object, "mapping", report_json_text(header->mapping));
    json_object_set_new(object, "n_train",
                        header->n_train < 0 ? json_null() : json_integer(header->n_train));
    if (!isnan(header->decrement))
        json_object_set_new(object, "newton_decrement", report_json_number(header->decrement));
    json_object_set_new(object, "creator", report_json_text(header->creator));
    json_object_set_new(object, "provenance", provenance_json(header->provenance));
    return object;
}

void info_print_json(const struct info_command *command, const struct info_file *file)
{
    json_t *object = header_json(file->source, &file->structure);
    if (file->summaries) {
        json_t *total = json_object();
        add_summary(total, ivon_summary_total(file->summaries));
        json_object_set_new(object, "summary", total);
        json_object_set_new(object, "effective_parameters",
                            report_json_number(info_effective(file)));
        add_inspection(json_object_get(object, "structure"), file->inspection, command->check);
    }
    if (file->summaries && command->tensors) {
        size_t count;
        const struct ivon_summary *each = ivon_summary_tensors(file->summaries, &count);
        json_t *tensors = json_array();
        for (size_t i = 0; i < count; i++)
            json_array_append_new(tensors, tensor_json(file->source, &each[i]));
        json_object_set_new(object, "tensors", tensors);
    }
    if (command->check)
        json_object_set(object, "findings", file->findings);
    report_json_line(object);
}
