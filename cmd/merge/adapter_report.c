/* How near the adapters that ivon-merge writes are to the merged models. */
#include <math.h>
#include <stdio.h>

#include "cmd/merge/merge.h"
#include "cmd/shared/report.h"

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

double merge_adapter_error(const struct merge_command *command, size_t output)
{
    size_t count;
    const struct ivon_extracted *tensors = ivon_extraction_tensors(command->extractions[output],
                                                                   &count);
    return adapter_error(tensors, count);
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
