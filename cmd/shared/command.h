/* The commands: one row for each. Dispatch, `ivon help` and completions follow from the rows, and
   so do the links and the tests of the manual: CMakeLists.txt reads the names here. */
#ifndef CMD_SHARED_COMMAND_H
#define CMD_SHARED_COMMAND_H

#include <argp.h>
#include <stdbool.h>

/* ROW(name, summary, options, run, by_ranks); see struct command. */
#define COMMANDS(ROW)                                                                              \
    ROW("calibrate", "calibrate predictions by held-out data", calibrate_argp, calibrate_run,      \
        false)                                                                                     \
    ROW("convert", "convert a checkpoint into another format", convert_argp, convert_run, false)   \
    ROW("fit", "fit a posterior to a trained network", fit_argp, fit_run, true)                    \
    ROW("influence", "tell which training examples made the model say what it says",               \
        influence_argp, influence_run, true)                                                       \
    ROW("info", "tell what a posterior holds, and check it", info_argp, info_run, false)           \
    ROW("merge", "merge the posteriors of finetuned models", merge_argp, merge_run, true)          \
    ROW("plot", "draw what the other commands print", plot_argp, plot_run, false)                  \
    ROW("predict", "average predictions over weights sampled from posteriors", predict_argp,       \
        predict_run, true)                                                                         \
    ROW("predict-gen", "predict the test loss from the training data", predict_gen_argp,           \
        predict_gen_run, true)                                                                     \
    ROW("prune", "set weights to zero that a posterior says may be", prune_argp, prune_run, false) \
    ROW("sample", "draw weights from a posterior", sample_argp, sample_run, false)                 \
    ROW("sensitivity", "tell how much a model depends on each training example", sensitivity_argp, \
        sensitivity_run, true)                                                                     \
    ROW("train", "train a network, and keep the posterior of its weights", train_argp, train_run,  \
        true)

struct command {
    const char *name;    /* "merge" */
    const char *summary; /* one line, for `ivon help` */
    const struct argp *argp;
    /* Parses and works; argv[0] is "ivon-merge". Returns the exit status. */
    int (*run)(int argc, char **argv);
    bool by_ranks; /* it shares its work among the ranks of a launcher; else it refuses several */
};

/* The rows, and behind them one whose name is null. */
extern const struct command commands[];

#define COMMAND_DECLARE(name, summary, options, run, by_ranks)                                     \
    extern const struct argp options;                                                              \
    int run(int argc, char **argv);
COMMANDS(COMMAND_DECLARE)
#undef COMMAND_DECLARE

int completion_print(const char *shell);

#endif
