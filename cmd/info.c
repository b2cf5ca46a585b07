#include "cmd/info/info.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/command.h"
#include "cmd/shared/process/confine.h"
#include "cmd/shared/process/progress.h"
#include "cmd/shared/report.h"

enum { EXIT_FINDINGS = 1 /* of --check */ };

enum { KEY_TENSORS = 256, KEY_HEADER, KEY_CHECK, KEY_JSON, KEY_MEMORY };

static const struct argp_option option_table[] = {
    OPTION_HEADING("What is told:", 1),
    OPTION_HEADING("Output:", 2),
    {"tensors", KEY_TENSORS, NULL, 0, "List every tensor with its summary", 1},
    {"header", KEY_HEADER, NULL, 0, "Tell only what the file says of itself; read no tensor", 1},
    {"check", KEY_CHECK, NULL, 0, "Look for what is wrong; exit with 1 when something is", 1},
    {"json", KEY_JSON, NULL, 0, "Print one JSON object for each file", 2},
    {"memory", KEY_MEMORY, "SIZE", 0, "Memory for decompressing (default 64M)", 2},
    {0},
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
    .doc = "Tell what a posterior holds, and check it.\v"
           "Examples:\n"
           "  ivon-info posterior.h5\n"
           "  ivon-info --tensors posterior.h5\n"
           "\nSee ivon-info(1).",
    .children = children,
};

/* Text. */

static void print_number(const char *label, double value)
{
    if (!isnan(value))
        printf("  %-16s%.10g\n", label, value);
}

/* The header's ess, or its weight decay, and the range of the Hessians' own where those differ. */
static void print_scale(const char *label, const struct ivon_source *source, double header,
                        size_t offset)
{
    double least = INFINITY, greatest = -INFINITY;
    for (size_t i = 0; i < ivon_source_tensor_count(source); i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(source, i);
        if (tensor->part != IVON_HESSIAN)
            continue;
        double own = *(const double *)(const void *)((const char *)tensor + offset);
        least = fmin(least, own);
        greatest = fmax(greatest, own);
    }
    if (least < header || greatest > header)
        printf("  %-16s%.10g, of tensors %.10g to %.10g\n", label, header, least, greatest);
    else
        print_number(label, header);
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
    char draw[32], covariance[32];
    printf("\n  %-16sdraw %s in each thread, covariance %s\n", "memory",
           report_bytes((double)structure->draw_bytes, draw),
           report_bytes((double)structure->covariance_bytes, covariance));
}

static void print_range(const char *label, const double range[2])
{
    if (range[0] <= range[1])
        printf("  %-16seigenvalues %.4g to %.4g\n", label, report_number(range[0]),
               report_number(range[1]));
}

static void widen(double range[2], const struct ivon_factor *factor)
{
    range[0] = fmin(range[0], factor->least);
    range[1] = fmax(range[1], factor->greatest);
}

/* Of all blocks together. */
static void print_factors(const struct ivon_inspection *inspection)
{
    size_t count;
    const struct ivon_block *blocks = ivon_inspect_blocks(inspection, &count);
    const struct ivon_low_rank *low_rank = ivon_inspect_low_rank(inspection);
    double inputs[2] = {INFINITY, -INFINITY}, outputs[2] = {INFINITY, -INFINITY};
    for (size_t b = 0; b < count; b++) {
        widen(inputs, &blocks[b].input);
        widen(outputs, &blocks[b].output);
    }
    print_range("input factors", inputs);
    print_range("output factors", outputs);
    if (low_rank->rank)
        printf("  %-16svalues %.4g to %.4g\n", "low rank", low_rank->values[0],
               low_rank->values[low_rank->rank - 1]);
}

static void print_factor(int width, const char *name, const char *side,
                         const struct ivon_factor *factor)
{
    if (!factor->rotated && !factor->spectrum)
        return;
    printf("  ");
    report_text(stdout, name);
    printf("%*s  %-6s %6zu %6zu %10.3g %10.3g %10.3g %10.3g %10.3g\n", width - (int)strlen(name),
           "", side, factor->rows, factor->rank, report_number(factor->least),
           report_number(factor->quantiles[1]), report_number(factor->quantiles[2]),
           report_number(factor->quantiles[3]), report_number(factor->greatest));
}

static void print_spectra(const struct ivon_inspection *inspection)
{
    size_t count;
    const struct ivon_block *blocks = ivon_inspect_blocks(inspection, &count);
    int width = 6;
    for (size_t b = 0; b < count; b++)
        if ((int)strlen(blocks[b].weight) > width)
            width = (int)strlen(blocks[b].weight);
    if (count)
        printf("\n  %-*s  %-6s %6s %6s %10s %10s %10s %10s %10s\n", width, "block", "side", "rows",
               "rank", "min", "25 %", "median", "75 %", "max");
    for (size_t b = 0; b < count; b++) {
        print_factor(width, blocks[b].weight, "input", &blocks[b].input);
        print_factor(width, blocks[b].weight, "output", &blocks[b].output);
    }
}

static void print_header(const struct ivon_source *source, const struct ivon_structure *structure)
{
    const struct ivon_header *header = ivon_source_header(source);
    struct info_contents contents = info_count(source);
    char count[32], bytes[32];
    report_text(stdout, ivon_source_path(source));
    printf("\n  %-16s%s in %zu tensors\n", "parameters",
           report_count(contents.elements[IVON_MEAN], count), contents.tensors[IVON_MEAN]);
    for (int part = 0; part < IVON_PART_COUNT; part++)
        if (contents.tensors[part] && part != IVON_OPAQUE)
            printf("  %-16s%s\n", ivon_part_name((enum ivon_part)part),
                   report_bytes((double)contents.bytes[part], bytes));
    print_structure(structure);
    print_scale("ess", source, header->ess, offsetof(struct ivon_tensor, ess));
    print_scale("weight decay", source, header->weight_decay,
                offsetof(struct ivon_tensor, weight_decay));
    print_number("step", header->step < 0 ? NAN : (double)header->step);
    print_number("n_train", header->n_train < 0 ? NAN : (double)header->n_train);
    print_number("decrement", header->decrement);
    print_text("mapping", header->mapping);
    print_text("creator", header->creator);
    json_t *provenance = header->provenance ? json_loads(header->provenance, 0, NULL) : NULL;
    print_text("command", json_string_value(json_object_get(provenance, "command")));
    print_text("date", json_string_value(json_object_get(provenance, "date")));
    if (header->provenance && !json_is_object(provenance))
        print_text("provenance", header->provenance);
    json_decref(provenance);
}

static void print_total(const struct info_file *file)
{
    const struct ivon_summary *total = ivon_summary_total(file->summaries);
    const double *hessian = total->hessian_quantiles, *ratio = total->signal_to_noise;
    printf("  %-16s%.6g\n", "mean norm", report_number(total->mean_norm));
    if (!total->hessian_count)
        return;
    printf("  %-16smin %.4g, median %.4g, max %.4g\n", "Hessian", report_number(total->hessian_min),
           report_number(hessian[2]), report_number(total->hessian_max));
    print_factors(file->inspection);
    if (!isnan(info_effective(file)))
        printf("  %-16s%.6g parameters\n", "effective", info_effective(file));
    if (isnan(ratio[2])) {
        printf("  %-16sunknown, as %s\n", "|mean|/sigma",
               file->structure.blocks ? "h is in the bases of blocks" : "ess or weight decay are");
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
    printf("\n  %-*s  %-5s %-14s %10s %10s %10s %10s %9s %9s %9s %9s\n", width, "tensor", "dtype",
           "shape", "mean norm", "h min", "h median", "h max", "effective", "snr 5 %", "snr 50 %",
           "snr 95 %");
    for (size_t i = 0; i < count; i++) {
        const struct ivon_tensor *tensor = info_described(source, &each[i]);
        char shape[256];
        printf("  ");
        report_text(stdout, tensor->name);
        printf("%*s  %-5s %-14s %10.4g %10.3g %10.3g %10.3g %9.4g %9.3g %9.3g %9.3g\n",
               width - (int)strlen(tensor->name), "", ivon_dtype_name(tensor->dtype),
               ivon_tensor_shape_text(tensor, shape), report_number(each[i].mean_norm),
               report_number(each[i].hessian_min), report_number(each[i].hessian_quantiles[2]),
               report_number(each[i].hessian_max),
               report_number(each[i].hessian_count ? each[i].effective : NAN),
               report_number(each[i].signal_to_noise[0]), report_number(each[i].signal_to_noise[2]),
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

static void print_all(const struct info_command *command, const struct info_file *file)
{
    if (command->json) {
        info_print_json(command, file);
    } else if (command->check) {
        print_findings(file->source, file->findings, command->common.quiet);
    } else {
        print_header(file->source, &file->structure);
        print_opaque(file->source);
        if (file->summaries)
            print_total(file);
        if (file->summaries && command->tensors) {
            print_tensors(file->source, file->summaries);
            print_spectra(file->inspection);
        }
    }
}

static int info_read(const struct info_command *command, struct info_file *file,
                     const struct ivon_progress *progress, struct ivon_error *error)
{
    struct ivon_summary_options options = ivon_summary_defaults();
    struct ivon_inspect_options inspect = ivon_inspect_defaults();
    options.resources.threads = inspect.resources.threads = command->common.threads;
    options.resources.progress = *progress;
    inspect.orthonormal = command->check;
    int code = ivon_structure_describe(&file->structure, file->source, error);
    if (!code && !command->header)
        code = ivon_summary_new(&file->summaries, file->source, &options, error);
    if (!code && !command->header)
        code = ivon_inspect_new(&file->inspection, file->source, &inspect, error);
    return code;
}

static int info_print_file(const struct info_command *command, const char *path)
{
    struct ivon_error error = {0};
    struct info_file file = {0};
    struct progress progress;
    struct ivon_progress shown = progress_start(&progress, "reading", command->common.quiet);
    struct common_options common = command->common;
    common.quiet |= command->check; /* the warning is a finding then */
    common.verbose = false;         /* the mapping is printed with the rest */
    int code = open_checkpoint(&file.source, path, &command->open, command->memory, &common,
                               &error);
    if (!code)
        code = info_read(command, &file, &shown, &error);
    progress_end(&progress);
    if (!code && command->check)
        file.findings = info_check(&file);
    int status = progress_status(code, &error);
    if (!code)
        print_all(command, &file);
    if (json_array_size(file.findings))
        status = EXIT_FINDINGS;
    json_decref(file.findings);
    ivon_summary_free(file.summaries);
    ivon_inspect_free(file.inspection);
    ivon_source_close(file.source);
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
