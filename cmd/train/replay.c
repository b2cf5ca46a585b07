#define _GNU_SOURCE
#include "cmd/train/replay.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/process/ranks.h"
#include "cmd/shared/report.h"
#include "cmd/train/train.h"

struct replay {
    struct train_command command; /* points to the words */
    bool parsed, model_given;
    char *text;   /* of the words, one after the other */
    char **words; /* behind them a null */
    int count;
};

int replay_find(char **checkpoint, const char *run, struct ivon_error *error)
{
    struct train_directory *directory = NULL;
    struct stat status;
    if (stat(run, &status) || !S_ISDIR(status.st_mode)) {
        *checkpoint = xstrdup(run);
        return 0;
    }
    int code = train_directory_open(&directory, run, false, true, checkpoint, error);
    train_directory_close(directory);
    if (!code)
        code = ranks_share_text(checkpoint, error);
    return code || *checkpoint
               ? code
               : error_fill(error, IVON_ERROR_DATA, "%s: holds no checkpoint of ivon-train", run);
}

/* Takes the quotes from a word, in place: 'it'\''s'. Returns what stands behind it, or null where a
   quote is not closed. */
static char *replay_unquote(char *word)
{
    char *to = word, *from = word;
    for (; *from && *from != ' '; from++) {
        if (*from == '\\' && from[1])
            *to++ = *++from;
        else if (*from != '\'')
            *to++ = *from;
        else
            for (from++; *from != '\''; from++) {
                if (!*from)
                    return NULL;
                *to++ = *from;
            }
    }
    char *behind = *from ? from + 1 : from;
    *to = '\0';
    return behind;
}

/* Splits a command as provenance quotes it; false where it is not so quoted. */
static bool replay_split(struct replay *replay, const char *command)
{
    replay->text = xstrdup(command);
    replay->words = xcalloc(strlen(command) + 2, sizeof *replay->words);
    for (char *at = replay->text; at && *at;) {
        replay->words[replay->count++] = at;
        at = replay_unquote(at);
        if (!at)
            return false;
    }
    return replay->count > 0 && replay->count < INT16_MAX;
}

/* Finds the words of the training's command. */
static int replay_read_words(struct replay *replay, const struct ivon_source *checkpoint,
                             struct ivon_error *error)
{
    const char *text = ivon_source_header(checkpoint)->provenance;
    json_t *provenance = text ? json_loads(text, 0, NULL) : NULL;
    bool training = json_is_object(json_object_get(provenance, "training"));
    const char *command = json_string_value(json_object_get(provenance, "command"));
    bool fine = training && command && replay_split(replay, command);
    json_decref(provenance);
    if (fine && strcmp(basename(replay->words[0]), "ivon-train") == 0)
        return 0;
    return error_fill(error, IVON_ERROR_DATA,
                      training ? "%s: its provenance does not hold the command of its training"
                               : "%s: holds no provenance of ivon-train, whose training is to be "
                                 "made again: --validate-from=RUN names one",
                      ivon_source_path(checkpoint));
}

/* A training that another one's losses stopped has no length that halves of its data could have. */
static int replay_check_end(const struct replay *replay, const struct ivon_source *checkpoint,
                            struct ivon_error *error)
{
    return replay->command.watch.patience
               ? error_fill(error, IVON_ERROR_ARGUMENT,
                            "%s: was trained with --patience, of which only the one training has "
                            "the losses: it cannot be made again on other data",
                            ivon_source_path(checkpoint))
               : 0;
}

static int replay_check_likelihood(const struct replay *replay,
                                   const struct evaluation_options *evaluation,
                                   const struct ivon_source *checkpoint, struct ivon_error *error)
{
    const struct ivon_task *now = &evaluation->task, *then = &replay->command.options.task;
    if (then->likelihood != now->likelihood)
        return error_fill(error, IVON_ERROR_ARGUMENT,
                          "%s: was trained with --likelihood=%s, and this is --likelihood=%s",
                          ivon_source_path(checkpoint),
                          ivon_likelihood_traits(then->likelihood)->name,
                          ivon_likelihood_traits(now->likelihood)->name);
    if (then->noise_std > now->noise_std || then->noise_std < now->noise_std)
        return error_fill(error, IVON_ERROR_ARGUMENT,
                          "%s: was trained with --noise-std=%g, and this is --noise-std=%g",
                          ivon_source_path(checkpoint), then->noise_std, now->noise_std);
    return 0;
}

/* Opens the weights of --from, wherever they are said to be now. */
static int replay_open_weights(struct replay *replay, const char *from, bool no_sandbox,
                               struct ivon_error *error)
{
    struct train_command *command = &replay->command;
    struct ivon_open_options open = {.size = sizeof open, .no_sandbox = no_sandbox};
    struct ivon_error found = {0};
    if (!command->from)
        return from ? error_fill(error, IVON_ERROR_ARGUMENT,
                                 "--from: the training did not begin with weights of a file")
                    : 0;
    int code = ivon_checkpoint_open(&command->weights, from ? from : command->from, &open, &found);
    if (!code)
        return 0;
    *error = found;
    return from ? code
                : error_fill(error, code,
                             "%s; the training began with it: name it by --from=POSTERIOR",
                             found.message);
}

int replay_open(struct replay **out, const struct ivon_source *checkpoint, const char *model,
                const char *from, const struct evaluation_options *evaluation, int threads,
                struct ivon_error *error)
{
    struct replay *replay = xcalloc(1, sizeof *replay);
    struct train_command *command = &replay->command;
    *out = replay;
    int code = replay_read_words(replay, checkpoint, error);
    if (code)
        return code;
    train_command_parse(command, replay->count, replay->words, ARGP_NO_HELP);
    replay->parsed = true;
    code = replay_check_end(replay, checkpoint, error);
    if (!code)
        code = replay_check_likelihood(replay, evaluation, checkpoint, error);
    if (!code && command->held_out > 0)
        code = error_fill(error, IVON_ERROR_ARGUMENT,
                          "%s: was trained on what --held-out=%g left of its data, which are not "
                          "all of these",
                          ivon_source_path(checkpoint), command->held_out);
    command->common.quiet = true; /* the training has said what there is to say */
    command->options.task = evaluation->task;
    command->options.resources = (struct ivon_resources){.memory = evaluation->memory,
                                                         .threads = threads};
    replay->model_given = model && command->evaluation.model;
    if (replay->model_given)
        command->evaluation.model = model;
    if (!code && command->augment)
        code = ivon_augmentation_parse(&command->options.augmentation, &command->options.crop,
                                       &command->options.cutout, command->augment, error);
    if (!code)
        code = train_class_weights_take(command, error);
    return code ? code : replay_open_weights(replay, from, evaluation->dataset.no_sandbox, error);
}

void replay_close(struct replay *replay)
{
    if (!replay)
        return;
    if (replay->parsed)
        train_command_release(&replay->command);
    free(replay->words);
    free(replay->text);
    free(replay);
}

const struct ivon_train_options *replay_options(const struct replay *replay)
{
    return &replay->command.options;
}

struct ivon_train_start replay_start(const struct replay *replay)
{
    const struct train_command *command = &replay->command;
    return (struct ivon_train_start){.architecture = command->architecture,
                                     .weights = command->weights,
                                     .prior = command->posterior_prior ? command->weights : NULL};
}

int replay_make_network(void *context, struct ivon_network **network, struct ivon_error *error)
{
    struct replay *replay = context;
    struct train_command *command = &replay->command;
    struct ivon_error found = {0};
    int code = train_make_network(command, NULL, &found);
    *network = command->network;
    command->network = NULL;
    if (code == IVON_ERROR_INPUT && !replay->model_given)
        return error_fill(error, code,
                          "%s; the training began with it: name it by --model=GRAPH.onnx",
                          found.message);
    if (code)
        *error = found;
    return code;
}
