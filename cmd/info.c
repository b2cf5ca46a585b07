#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/command.h"
#include "cmd/shared/confine.h"
#include "cmd/shared/open.h"
#include "cmd/shared/options.h"
#include "cmd/shared/progress.h"
#include "cmd/shared/report.h"
#include "ivon/ivon.h"

enum { EXIT_FINDINGS = 1 /* of --check */ };

enum { KEY_TENSORS = 256, KEY_HEADER, KEY_CHECK, KEY_JSON, KEY_MEMORY };

static const struct argp_option option_table[] = {
    {"tensors", KEY_TENSORS, NULL, 0, "List every tensor with its summary", 1},
    {"header", KEY_HEADER, NULL, 0, "Tell only what the file says of itself; read no tensor", 1},
    {"check", KEY_CHECK, NULL, 0, "Look for what is wrong; exit with 1 when something is", 1},
    {"json", KEY_JSON, NULL, 0, "Print one JSON object for each file", 2},
    {"memory", KEY_MEMORY, "SIZE", 0, "Memory for decompressing (default 64M)", 2},
    {0},
};

struct info_command {
    struct common_options common;
    bool tensors, header, check, json;
    struct open_options open;
    size_t memory;
    char **files;
    int file_count;
};

static error_t info_parse(int key, char *argument, struct argp_state *state)
{
    struct info_command *command = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &command->common;
        state->child_inputs[1] = &command->open;
        return 0;
    case ARGP_KEY_ARGS:
        command->files = state->argv + state->next;
        command->file_count = state->argc - state->next;
        state->next = state->argc;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_failure(state, EX_USAGE, 0, "no file given; see --help");
        return 0;
    case ARGP_KEY_END:
        open_check_hessian(&command->open, command->file_count > 1, state);
        if (command->header && (command->tensors || command->check))
            argp_failure(state, EX_USAGE, 0, "--header reads no tensors to list or check");
        return 0;
    case KEY_TENSORS:
        command->tensors = true;
        return 0;
    case KEY_HEADER:
        command->header = true;
        return 0;
    case KEY_CHECK:
        command->check = true;
        return 0;
    case KEY_JSON:
        command->json = true;
        return 0;
    case KEY_MEMORY:
        command->memory = option_size(state, "--memory", argument);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {
    {&common_argp, 0, NULL, 0}, {&open_argp, 0, NULL, 0}, {0}};

const struct argp info_argp = {
    .options = option_table,
    .parser = info_parse,
    .args_doc = "FILE...",
    .doc = "Tell what a posterior holds, and check it.\vSee ivon-info(1).",
    .children = children,
};

/* The contents of one file, in numbers. */
struct contents {
    size_t tensors[IVON_PART_COUNT];
    uint64_t elements[IVON_PART_COUNT];
    uint64_t bytes[IVON_PART_COUNT];
};

static struct contents count_contents(const struct ivon_source *source)
{
    struct contents contents = {0};
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        contents.tensors[tensor->part]++;
        contents.elements[tensor->part] += tensor->count;
        contents.bytes[tensor->part] += tensor->count * ivon_dtype_size(tensor->dtype);
    }
    return contents;
}

/* Returns whether a part is counted where there is nothing of it, too. */
static bool always_counted(int part)
{
    return part == IVON_MEAN || part == IVON_HESSIAN || part == IVON_MOMENTUM ||
           part == IVON_BUFFER || part == IVON_GRAPH;
}

/* The tensor that a summary describes: the mean, or a Hessian without one. */
static const struct ivon_tensor *described(const struct ivon_source *source,
                                           const struct ivon_summary *summary)
{
    return ivon_source_tensor(source, summary->mean != SIZE_MAX ? summary->mean : summary->hessian);
}

/* JSON. */

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
    const struct ivon_tensor *tensor = described(source, summary);
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
    json_t *object = json_object();
    json_object_set_new(object, "base", json_string(structure->blocks ? "kronecker" : "diagonal"));
    json_object_set_new(object, "blocks", json_integer((json_int_t)structure->blocks));
    json_object_set_new(object, "rank", json_integer((json_int_t)structure->rank));
    return object;
}

static json_t *header_json(const struct ivon_source *source, const struct ivon_structure *structure)
{
    const struct ivon_header *header = ivon_source_header(source);
    struct contents contents = count_contents(source);
    json_t *object = json_object();
    json_object_set_new(object, "file", report_json_text(ivon_source_path(source)));
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
    json_object_set_new(object, "creator", report_json_text(header->creator));
    json_object_set_new(object, "provenance", provenance_json(header->provenance));
    return object;
}

static void info_print_json(const struct info_command *command, const struct ivon_source *source,
                            const struct ivon_structure *structure,
                            const struct ivon_summaries *summaries, json_t *findings)
{
    json_t *object = header_json(source, structure);
    if (summaries) {
        json_t *total = json_object();
        add_summary(total, ivon_summary_total(summaries));
        json_object_set_new(object, "summary", total);
    }
    if (summaries && command->tensors) {
        size_t count;
        const struct ivon_summary *each = ivon_summary_tensors(summaries, &count);
        json_t *tensors = json_array();
        for (size_t i = 0; i < count; i++)
            json_array_append_new(tensors, tensor_json(source, &each[i]));
        json_object_set_new(object, "tensors", tensors);
    }
    if (command->check)
        json_object_set(object, "findings", findings);
    report_json_line(object);
}

/* Text. */

static void print_number(const char *label, double value)
{
    if (!isnan(value))
        printf("  %-16s%.10g\n", label, value);
}

static void print_text(const char *label, const char *text)
{
    if (!text)
        return;
    printf("  %-16s", label);
    report_text(stdout, text);
    putchar('\n');
}

/* "kronecker (2 blocks), low rank 20"; nothing of a diagonal. */
static void print_structure(const struct ivon_structure *structure)
{
    if (!structure->blocks && !structure->rank)
        return;
    printf("  %-16s", "structure");
    if (structure->blocks)
        printf("kronecker (%zu block%s)", structure->blocks, structure->blocks == 1 ? "" : "s");
    else
        printf("diagonal");
    if (structure->rank)
        printf(", low rank %zu", structure->rank);
    putchar('\n');
}

static void print_header(const struct ivon_source *source, const struct ivon_structure *structure)
{
    const struct ivon_header *header = ivon_source_header(source);
    struct contents contents = count_contents(source);
    char count[32], bytes[32];
    report_text(stdout, ivon_source_path(source));
    printf("\n  %-16s%s in %zu tensors\n", "parameters",
           report_count(contents.elements[IVON_MEAN], count), contents.tensors[IVON_MEAN]);
    for (int part = 0; part < IVON_PART_COUNT; part++)
        if (contents.tensors[part] && part != IVON_OPAQUE)
            printf("  %-16s%s\n", ivon_part_name((enum ivon_part)part),
                   report_bytes((double)contents.bytes[part], bytes));
    print_structure(structure);
    print_number("ess", header->ess);
    print_number("weight decay", header->weight_decay);
    print_number("step", header->step < 0 ? NAN : (double)header->step);
    print_number("n_train", header->n_train < 0 ? NAN : (double)header->n_train);
    print_text("mapping", header->mapping);
    print_text("creator", header->creator);
    json_t *provenance = header->provenance ? json_loads(header->provenance, 0, NULL) : NULL;
    print_text("command", json_string_value(json_object_get(provenance, "command")));
    print_text("date", json_string_value(json_object_get(provenance, "date")));
    if (header->provenance && !json_is_object(provenance))
        print_text("provenance", header->provenance);
    json_decref(provenance);
}

static void print_total(const struct ivon_summary *total, const struct ivon_structure *structure)
{
    const double *hessian = total->hessian_quantiles, *ratio = total->signal_to_noise;
    printf("  %-16s%.6g\n", "mean norm", report_number(total->mean_norm));
    if (!total->hessian_count)
        return;
    printf("  %-16smin %.4g, median %.4g, max %.4g\n", "Hessian", report_number(total->hessian_min),
           report_number(hessian[2]), report_number(total->hessian_max));
    if (isnan(ratio[2])) {
        printf("  %-16sunknown, as %s\n", "|mean|/sigma",
               structure->blocks ? "h is in the bases of blocks" : "ess or weight decay are");
        return;
    }
    printf("  %-16s5 %% %.4g, 25 %% %.4g, median %.4g, 75 %% %.4g, 95 %% %.4g\n", "|mean|/sigma",
           report_number(ratio[0]), report_number(ratio[1]), report_number(ratio[2]),
           report_number(ratio[3]), report_number(ratio[4]));
}

static void print_tensors(const struct ivon_source *source, const struct ivon_summaries *summaries)
{
    size_t count;
    const struct ivon_summary *each = ivon_summary_tensors(summaries, &count);
    int width = 6;
    for (size_t i = 0; i < count; i++)
        if ((int)strlen(each[i].name) > width)
            width = (int)strlen(each[i].name);
    printf("\n  %-*s  %-5s %-14s %10s %10s %10s %10s %9s %9s %9s\n", width, "tensor", "dtype",
           "shape", "mean norm", "h min", "h median", "h max", "snr 5 %", "snr 50 %", "snr 95 %");
    for (size_t i = 0; i < count; i++) {
        const struct ivon_tensor *tensor = described(source, &each[i]);
        char shape[256];
        printf("  ");
        report_text(stdout, tensor->name);
        printf("%*s  %-5s %-14s %10.4g %10.3g %10.3g %10.3g %9.3g %9.3g %9.3g\n",
               width - (int)strlen(tensor->name), "", ivon_dtype_name(tensor->dtype),
               ivon_tensor_shape_text(tensor, shape), report_number(each[i].mean_norm),
               report_number(each[i].hessian_min), report_number(each[i].hessian_quantiles[2]),
               report_number(each[i].hessian_max), report_number(each[i].signal_to_noise[0]),
               report_number(each[i].signal_to_noise[2]),
               report_number(each[i].signal_to_noise[4]));
    }
}

/* Of the tensors that are not read, how they are stored. */
static void print_opaque(const struct ivon_source *source)
{
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        char shape[256];
        if (tensor->part != IVON_OPAQUE)
            continue;
        printf("  %-16s'", "not read");
        report_text(stdout, tensor->name);
        printf("', stored as ");
        report_text(stdout, tensor->stored_as);
        printf(", %s\n", ivon_tensor_shape_text(tensor, shape));
    }
}

/* The check: each finding is a tensor (or null), what was found, and what to do. */

static void add_finding(json_t *findings, const char *tensor, const char *found, const char *advice)
{
    json_t *finding = json_object();
    json_object_set_new(finding, "tensor", report_json_text(tensor));
    json_object_set_new(finding, "found", json_string(found));
    json_object_set_new(finding, "advice", json_string(advice));
    json_array_append_new(findings, finding);
}

static void check_tensor(const struct ivon_source *source, const struct ivon_summary *summary,
                         bool any_hessian, json_t *findings)
{
    char found[160];
    const char *name = summary->name;
    bool lacks_hessian = summary->mean != SIZE_MAX && summary->hessian == SIZE_MAX;
    if (summary->mean_nonfinite) {
        snprintf(found, sizeof found, "%llu values of the mean are not finite",
                 (unsigned long long)summary->mean_nonfinite);
        add_finding(findings, name, found,
                    "the training diverged: take an earlier checkpoint, or lower the learning "
                    "rate");
    }
    if (summary->hessian_nonfinite) {
        snprintf(found, sizeof found, "%llu values of the Hessian are not finite",
                 (unsigned long long)summary->hessian_nonfinite);
        add_finding(findings, name, found,
                    "take an earlier checkpoint, or train with gradient "
                    "clipping");
    }
    if (summary->nonpositive) {
        snprintf(found, sizeof found, "h + weight_decay <= 0 for %llu values",
                 (unsigned long long)summary->nonpositive);
        add_finding(findings, name, found,
                    "no posterior has such a precision: was the weight decay saved with the "
                    "Hessian's own run?");
    }
    if (summary->shapes_differ && summary->mean != SIZE_MAX)
        add_finding(findings, name, "mean and Hessian differ in shape",
                    "save both from the same model");
    else if (lacks_hessian && any_hessian && !summary->in_block)
        add_finding(findings, name, "has no Hessian",
                    "a frozen parameter belongs under buffers; else save its Hessian");
    if (summary->mean == SIZE_MAX && !summary->shapes_differ)
        add_finding(findings, name, "a Hessian without a mean",
                    "are the names of means and Hessians the same?");
    if (summary->hessian != SIZE_MAX && summary->hessian_at_start) {
        snprintf(found, sizeof found, "the Hessian never left its start, %.4g",
                 report_number(summary->hessian_quantiles[2]));
        add_finding(findings, name, found,
                    "train longer, or lower beta2: the posterior's width "
                    "is a guess");
    }
    if (summary->hessian != SIZE_MAX) {
        const struct ivon_tensor *hessian = ivon_source_tensor(source, summary->hessian);
        if (!(hessian->ess > 0) || isinf(hessian->ess))
            add_finding(findings, name, "no positive ess holds for its Hessian",
                        "set the root attribute 'ess'");
        if (!(hessian->weight_decay >= 0) || isinf(hessian->weight_decay))
            add_finding(findings, name, "no weight_decay of zero or more holds for its Hessian",
                        "set the root attribute 'weight_decay'");
    }
}

/* Trained posteriors have a median |mean|/sigma of .4 to 16; where noise is ten times the weights,
   averaging over it is at chance. A median of zero is that of means that are zero, as those of a
   prior or of new adapters are, and says nothing of the width. */
static void check_width(const struct ivon_summary *total, json_t *findings)
{
    char found[160];
    double median = total->signal_to_noise[2];
    if (!(median > 0 && median < 0.1))
        return;
    snprintf(found, sizeof found,
             "the posterior is far too wide: the median of |mean|/sigma is %.3g", median);
    add_finding(findings, NULL, found,
                "samples are noise, and leave-one-out losses mean nothing: raise the ess or the "
                "weight decay, or train longer");
}

static json_t *info_check(const struct ivon_source *source, const struct ivon_summaries *summaries)
{
    size_t count;
    const struct ivon_summary *each = ivon_summary_tensors(summaries, &count);
    json_t *findings = json_array();
    bool any_hessian = false;
    for (size_t i = 0; i < count; i++)
        any_hessian |= each[i].hessian != SIZE_MAX;
    if (ivon_source_header(source)->warning)
        add_finding(findings, NULL, ivon_source_header(source)->warning,
                    "see ivon-formats(5) on how names are found");
    if (!count_contents(source).tensors[IVON_MEAN])
        add_finding(findings, NULL, "there is no mean", "is it a posterior?");
    else if (!any_hessian)
        add_finding(findings, NULL, "there is no Hessian",
                    "it is a point, not a posterior: only "
                    "averaging can use it");
    for (size_t i = 0; i < count; i++)
        check_tensor(source, &each[i], any_hessian, findings);
    check_width(ivon_summary_total(summaries), findings);
    return findings;
}

static void print_findings(const struct ivon_source *source, json_t *findings, bool quiet)
{
    size_t i;
    json_t *finding;
    json_array_foreach(findings, i, finding)
    {
        const char *tensor = json_string_value(json_object_get(finding, "tensor"));
        report_text(stdout, ivon_source_path(source));
        printf(": %s", tensor ? "tensor '" : "");
        report_text(stdout, tensor ? tensor : "");
        printf("%s%s: %s\n", tensor ? "': " : "",
               json_string_value(json_object_get(finding, "found")),
               json_string_value(json_object_get(finding, "advice")));
    }
    if (!json_array_size(findings) && !quiet) {
        report_text(stdout, ivon_source_path(source));
        puts(": no problems found");
    }
}

static void print_all(const struct info_command *command, const struct ivon_source *source,
                      const struct ivon_structure *structure,
                      const struct ivon_summaries *summaries, json_t *findings)
{
    if (command->json) {
        info_print_json(command, source, structure, summaries, findings);
    } else if (command->check) {
        print_findings(source, findings, command->common.quiet);
    } else {
        print_header(source, structure);
        print_opaque(source);
        if (summaries)
            print_total(ivon_summary_total(summaries), structure);
        if (summaries && command->tensors)
            print_tensors(source, summaries);
    }
}

static int info_print_file(const struct info_command *command, const char *path)
{
    struct ivon_error error = {0};
    struct ivon_source *source = NULL;
    struct ivon_summaries *summaries = NULL;
    struct ivon_structure structure;
    struct progress progress;
    json_t *findings = NULL;
    struct ivon_summary_options options = {
        .size = sizeof options,
        .resources.threads = command->common.threads,
        .resources.progress = progress_start(&progress, "reading", command->common.quiet)};
    struct common_options common = command->common;
    common.quiet |= command->check; /* the warning is a finding then */
    common.verbose = false;         /* the mapping is printed with the rest */
    int code = open_checkpoint(&source, path, &command->open, command->memory, &common, &error);
    if (!code)
        code = ivon_structure_describe(&structure, source, &error);
    if (!code && !command->header)
        code = ivon_summary_new(&summaries, source, &options, &error);
    progress_end(&progress);
    if (!code && command->check)
        findings = info_check(source, summaries);
    int status = progress_status(code, &error);
    if (!code)
        print_all(command, source, &structure, summaries, findings);
    if (json_array_size(findings))
        status = EXIT_FINDINGS;
    json_decref(findings);
    ivon_summary_free(summaries);
    ivon_source_close(source);
    return status;
}

int info_run(int argc, char **argv)
{
    struct info_command command = {.open.open = ivon_open_defaults()};
    int status = 0;
    argp_parse(&info_argp, argc, argv, 0, NULL, &command);
    confine(&(struct confinement){.off = command.open.open.no_sandbox}, argc, argv);
    command.open.open.for_several = command.file_count > 1;
    for (int i = 0; i < command.file_count && !progress_interrupted(); i++) {
        if (i && !command.json && !command.check)
            putchar('\n');
        int result = info_print_file(&command, command.files[i]);
        status = result > status ? result : status;
    }
    if (!command.common.quiet)
        open_warn_unused(&command.open);
    open_options_release(&command.open);
    return status;
}
