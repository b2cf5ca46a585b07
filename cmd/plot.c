#define _GNU_SOURCE
#include "cmd/plot/plot.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/command.h"
#include "cmd/shared/evaluation/text_options.h"
#include "cmd/shared/process/confine.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/options/options.h"
#include "cmd/shared/report.h"

enum {
    KEY_FORMAT = 256,
    KEY_TITLE,
    KEY_WIDTH,
    KEY_HEIGHT,
    KEY_COLUMN,
    KEY_BINS,
    KEY_TOP,
    KEY_LIMIT,
    KEY_QUERIES,
    KEY_VOCABULARY,
    KEY_INPUTS,
    KEY_TARGETS,
    KEY_TARGET_COLUMN,
    KEY_RESIZE,
    KEY_CLASSES,
    KEY_IGNORE_LABEL,
    KEY_NO_SANDBOX,
};

static const struct argp_option option_table[] = {
    OPTION_HEADING("What goes with the table:", 1),
    OPTION_HEADING("What is drawn:", 2),
    OPTION_HEADING("How it looks:", 3),
    OPTION_HEADING("Output:", 4),
    {"data", 'd', "DATA", 0,
     "reliability: the labels; images: the images; influence: the training data", 1},
    {"queries", KEY_QUERIES, "DATA", 0, "influence: where the queries are", 1},
    {"vocabulary", KEY_VOCABULARY, "FILE", 0,
     "influence: the data are arrays of tokens; the word of each, one a line", 1},
    {"inputs", KEY_INPUTS, "ARRAY", 0, "Array of images or tokens (default: x)", 1},
    {"targets", KEY_TARGETS, "ARRAY", 0, "Array of labels (default: y)", 1},
    {"target-column", KEY_TARGET_COLUMN, "COLUMN", 0, "CSV: column of labels", 1},
    {"resize", KEY_RESIZE, "SHORT[,MIDDLE]|HEIGHTxWIDTH", 0,
     "images, influence: scale a directory's images", 1},
    {"classes", KEY_CLASSES, "FILE", 0,
     "images, influence, reliability, sensitivity: names of the classes, one a line", 1},
    {"ignore-label", KEY_IGNORE_LABEL, "N", 0,
     "reliability, sensitivity: label of what does not count (default -100)", 1},
    {"column", KEY_COLUMN, "COLUMN", 0,
     "sensitivity, images: the score (default: the first in FILE)", 2},
    {"bins", KEY_BINS, "N", 0, "reliability, sensitivity: bins (default 15, or 40)", 2},
    {"top", KEY_TOP, "N", 0,
     "images: show the N of greatest score (default 24); influence: N that helped, N that harmed "
     "(default 5)",
     2},
    {"limit", KEY_LIMIT, "N", 0, "influence: show the first N queries (default 8)", 2},
    {"title", KEY_TITLE, "TEXT", 0, "Title of the picture; none when it is empty", 3},
    {"width", KEY_WIDTH, "PIXELS", 0, "Width of the picture", 3},
    {"height", KEY_HEIGHT, "PIXELS", 0, "Height of the picture", 3},
    {"output", 'o', "FILE", 0, "Write to FILE; - is standard output", 4},
    {"format", KEY_FORMAT, "svg|png", 0, "Format (default: by FILE's suffix)", 4},
    {"force", 'f', NULL, 0, "Replace an existing output", 4},
    {"no-sandbox", KEY_NO_SANDBOX, NULL, 0, "Read the inputs without giving up other rights", 4},
    {0},
};

static const struct plot_kind kinds[] = {
    {"generalization", "Loss on unseen data, predicted from the training data", 0, 0, false, NULL,
     plot_generalization},
    {"reliability", "Reliability", 520, 0, false, "max_probability", plot_reliability},
    {"sensitivity", "Dependence on each training example", 640, 420, true, NULL, plot_histogram},
    {"images", NULL, 0, 0, true, NULL, plot_images},
    {"influence", NULL, 0, 0, true, NULL, plot_influence},
    {"sweep", "Merged models by their scaling", 0, 0, false, NULL, plot_sweep},
    {"samples", "Predictions averaged over weight samples", 0, 0, false, NULL, plot_samples},
    {"shift", "Predictions of corrupted images", 0, 0, false, NULL, plot_shift},
    {"rates", "A sweep of the learning rate", 0, 0, false, NULL, plot_rates},
    {"front", "Merged models, on two data sets", 640, 520, false, NULL, plot_front},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

enum { OWNERS = 4 /* kinds that share an option, at most */ };

/* Options that are not for all kinds. */
static void plot_check_option(const struct plot_command *command, struct argp_state *state,
                              bool given, const char *option, const char *const owners[OWNERS])
{
    size_t count = 0;
    for (; count < OWNERS && owners[count]; count++)
        given = given && strcmp(command->kind->name, owners[count]) != 0;
    if (given)
        argp_failure(state, EX_USAGE, 0, "%s is for %s%s%s%s%s%s%s", option, owners[0],
                     count > 2 ? ", " : "", count > 2 ? owners[1] : "", count > 3 ? ", " : "",
                     count > 3 ? owners[2] : "", count > 1 ? " and " : "",
                     count > 1 ? owners[count - 1] : "");
}

static void plot_check_options(const struct plot_command *command, struct argp_state *state)
{
    const struct ivon_dataset_options *dataset = &command->dataset;
    const struct {
        bool given;
        const char *option, *owners[OWNERS];
    } options[] = {
        {command->data, "--data", {"reliability", "images", "influence"}},
        {command->queries, "--queries", {"influence"}},
        {command->vocabulary, "--vocabulary", {"influence"}},
        {dataset->characters || dataset->vocabulary, "--tokens", {"reliability", "influence"}},
        {dataset->context, "--context", {"reliability", "influence"}},
        {command->input, "--inputs", {"images", "reliability", "influence"}},
        {dataset->targets, "--targets", {"reliability", "influence"}},
        {dataset->target_column, "--target-column", {"reliability", "images", "influence"}},
        {dataset->image_height, "--resize", {"images", "influence"}},
        {command->classes, "--classes", {"images", "influence", "reliability", "sensitivity"}},
        {command->ignored_given, "--ignore-label", {"reliability", "sensitivity"}},
        {command->column, "--column", {"sensitivity", "images"}},
        {command->bins, "--bins", {"reliability", "sensitivity"}},
        {command->top, "--top", {"images", "influence"}},
        {command->limit, "--limit", {"influence"}},
    };
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        plot_check_option(command, state, options[i].given, options[i].option, options[i].owners);
    if (!command->data && (command->input || dataset->targets || dataset->target_column ||
                           text_options_given(dataset)))
        argp_failure(state, EX_USAGE, 0,
                     "--inputs, --targets, --target-column, --tokens and --context are for --data");
    if (command->vocabulary && (dataset->characters || dataset->vocabulary))
        argp_failure(
            state, EX_USAGE, 0,
            "--vocabulary has the words of arrays of tokens; texts have those of --tokens");
}

static void plot_check_output(struct plot_command *command, struct argp_state *state)
{
    const char *dot = command->output ? strrchr(command->output, '.') : NULL;
    if (!command->output)
        argp_failure(state, EX_USAGE, 0, "no output given: name it by -o FILE.svg or FILE.png");
    else if (command->format < 0 &&
             (strcmp(command->output, "-") == 0 || (dot && strcmp(dot, ".svg") == 0)))
        command->format = PICTURE_SVG;
    else if (command->format < 0 && dot && strcmp(dot, ".png") == 0)
        command->format = PICTURE_PNG;
    else if (command->format < 0)
        argp_failure(state, EX_USAGE, 0,
                     "-o: '%s' ends in neither .svg nor .png: name its --format", command->output);
}

static void plot_check_arguments(struct plot_command *command, struct argp_state *state)
{
    if (!command->kind)
        argp_failure(state, EX_USAGE, 0, "no kind of picture given; see --help");
    const char *kind = command->kind->name;
    if (!command->file_count)
        argp_failure(state, EX_USAGE, 0, "%s: no file given", kind);
    if (command->kind->one_file && command->file_count > 1)
        argp_failure(state, EX_USAGE, 0, "%s: %zu files given, expected one", command->kind->name,
                     command->file_count);
    plot_check_options(command, state);
    if (!command->data && (strcmp(kind, "images") == 0 || strcmp(kind, "influence") == 0))
        argp_failure(state, EX_USAGE, 0, "%s: no data given: name them by --data=DATA", kind);
    if (!command->queries && strcmp(kind, "influence") == 0)
        argp_failure(state, EX_USAGE, 0, "%s: no queries given: name them by --queries=DATA", kind);
    plot_check_output(command, state);
    command->width = command->width ? command->width : command->kind->width;
    command->height = command->height ? command->height : command->kind->height;
    if (!command->title)
        command->title = command->kind->title;
}

static void plot_parse_argument(struct plot_command *command, struct argp_state *state,
                                char *argument)
{
    const char *names[KINDS];
    for (int i = 0; i < KINDS; i++)
        names[i] = kinds[i].name;
    if (command->kind)
        command->files[command->file_count++] = argument;
    else
        command->kind = &kinds[option_choice(state, "KIND", argument, names, KINDS)];
}

static error_t parse_data(int key, char *argument, struct argp_state *state)
{
    struct plot_command *command = state->input;
    switch (key) {
    case 'd':
        command->data = argument;
        return 0;
    case KEY_QUERIES:
        command->queries = argument;
        return 0;
    case KEY_VOCABULARY:
        command->vocabulary = argument;
        return 0;
    case KEY_INPUTS:
        command->input = argument;
        return 0;
    case KEY_TARGETS:
        command->dataset.targets = argument;
        return 0;
    case KEY_TARGET_COLUMN:
        command->dataset.target_column = argument;
        return 0;
    case KEY_RESIZE:
        option_resize(state, argument, &command->dataset);
        return 0;
    case KEY_CLASSES:
        command->classes = argument;
        return 0;
    case KEY_IGNORE_LABEL:
        command->ignored = option_label(state, "--ignore-label", argument);
        command->ignored_given = true;
        return 0;
    case KEY_NO_SANDBOX:
        command->dataset.no_sandbox = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void plot_begin(struct argp_state *state)
{
    struct plot_command *command = state->input;
    state->child_inputs[0] = NULL;
    state->child_inputs[1] = &command->dataset;
}

static error_t plot_parse(int key, char *argument, struct argp_state *state)
{
    static const char *const formats[] = {"svg", "png"};
    struct plot_command *command = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        plot_begin(state);
        return 0;
    case ARGP_KEY_ARG:
        plot_parse_argument(command, state, argument);
        return 0;
    case ARGP_KEY_END:
        plot_check_arguments(command, state);
        return 0;
    case KEY_COLUMN:
        command->column = argument;
        return 0;
    case KEY_BINS:
        command->bins = (size_t)option_whole(state, "--bins", argument, 1, 1000);
        return 0;
    case KEY_TOP:
        command->top = (size_t)option_whole(state, "--top", argument, 1, 400);
        return 0;
    case KEY_LIMIT:
        command->limit = (size_t)option_whole(state, "--limit", argument, 1, 400);
        return 0;
    case KEY_TITLE:
        command->title = argument;
        return 0;
    case KEY_WIDTH:
        command->width = (int)option_whole(state, "--width", argument, 200, 8000);
        return 0;
    case KEY_HEIGHT:
        command->height = (int)option_whole(state, "--height", argument, 200, 8000);
        return 0;
    case 'o':
        command->output = argument;
        return 0;
    case KEY_FORMAT:
        command->format = option_choice(state, "--format", argument, formats, 2);
        return 0;
    case 'f':
        command->force = true;
        return 0;
    default:
        return parse_data(key, argument, state);
    }
}

static const struct argp_child children[] = {
    {&help_argp, 0, NULL, 0}, {&text_argp, 0, NULL, 0}, {0}};

const struct argp plot_argp = {
    .options = option_table,
    .parser = plot_parse,
    .children = children,
    .args_doc =
        "generalization|reliability|sensitivity|images|influence|shift|sweep|samples|rates|front "
        "FILE...",
    .doc = "Draw what the other commands print.\v"
           "Examples:\n"
           "  ivon-plot generalization losses.csv -o losses.svg\n"
           "  ivon-plot sensitivity suspects.csv -o suspects.svg\n"
           "\nPictures are drawn by gnuplot. See ivon-plot(1).",
};

/* Functions that the kinds of plots share. */

const char *plot_score(const struct plot_command *command, const struct ivon_table_reader *table)
{
    const struct ivon_score_traits *traits;
    if (command->column)
        return command->column;
    for (size_t i = 0; i < ivon_table_reader_count(table); i++)
        for (unsigned s = 0; (traits = ivon_score_traits((enum ivon_score)s)); s++)
            if (strcmp(ivon_table_reader_name(table, i), traits->name) == 0)
                return traits->name;
    return ivon_score_traits(IVON_SCORE_DEVIATION)->name;
}

const char *plot_file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Writes the picture. */
static int plot_put(const struct plot_command *command, const char *picture, size_t size)
{
    struct ivon_error error;
    if (strcmp(command->output, "-") != 0)
        return ivon_output_write(command->output, picture, size, command->force, &error)
                   ? report_error(&error)
                   : 0;
    if (fwrite(picture, 1, size, stdout) == size && fflush(stdout) == 0)
        return 0;
    report_note("cannot write standard output: %s", strerror(errno));
    return EX_IOERR;
}

static int run_plot(struct plot_command *command)
{
    const struct ivon_table_reader_options options = {
        .size = sizeof options,
        .no_sandbox = command->dataset.no_sandbox,
        .unfold = command->kind->unfold ? command->kind->unfold : command->column};
    struct script *script = &command->script;
    struct ivon_error error;
    char *picture = NULL;
    size_t size = 0;
    int code = command->classes
                   ? name_list_read_classes(&command->class_names, command->classes, &error)
                   : 0;
    command->dataset.classes = (const char *const *)command->class_names.names;
    command->dataset.class_count = command->class_names.count;
    for (size_t i = 0; i < command->file_count && !code; i++)
        code = ivon_table_reader_open(&command->tables[i], command->files[i], &options, &error);
    if (!code)
        code = command->kind->draw(command, &error);
    if (script->stream && fclose(script->stream) && !code)
        memory_exhausted();
    if (code)
        return report_error(&error);
    int status = gnuplot_run(script, &picture, &size);
    if (!status && picture)
        status = plot_put(command, picture, size);
    free(picture);
    return status;
}

int plot_run(int argc, char **argv)
{
    struct plot_command command = {
        .dataset = ivon_dataset_defaults(), .format = -1, .ignored = -100};
    command.files = xcalloc((size_t)argc, sizeof *command.files);
    command.tables = xcalloc((size_t)argc, sizeof *command.tables);
    argp_parse(&plot_argp, argc, argv, 0, NULL, &command);
    confine(&(struct confinement){.off = command.dataset.no_sandbox,
                                  .programs = true,
                                  .outputs = &command.output,
                                  .output_count = 1},
            argc, argv);
    if (command.input) {
        command.dataset.inputs = &command.input;
        command.dataset.input_count = 1;
    }
    int status = run_plot(&command);
    for (size_t i = 0; i < command.file_count; i++)
        ivon_table_reader_close(command.tables[i]);
    name_list_release(&command.class_names);
    free(command.script.text);
    free(command.tables);
    free(command.files);
    return status;
}
