/* The table of commands: dispatch, `ivon help`, completions and the tests of manuals read it. */
#ifndef CMD_SHARED_COMMAND_H
#define CMD_SHARED_COMMAND_H

#include <argp.h>

struct command {
    const char *name;    /* "merge" */
    const char *summary; /* one line, for `ivon help` */
    const struct argp *argp;
    /* Parses and works; argv[0] is "ivon-merge". Returns the exit status. */
    int (*run)(int argc, char **argv);
};

/* Ends with a name of null. */
extern const struct command commands[];

int completion_print(const char *shell);

extern const struct argp convert_argp, info_argp, merge_argp, plot_argp, predict_argp,
    predict_gen_argp, sample_argp, sensitivity_argp, train_argp;
int convert_run(int argc, char **argv);
int info_run(int argc, char **argv);
int merge_run(int argc, char **argv);
int plot_run(int argc, char **argv);
int predict_run(int argc, char **argv);
int predict_gen_run(int argc, char **argv);
int sample_run(int argc, char **argv);
int sensitivity_run(int argc, char **argv);
int train_run(int argc, char **argv);

#endif
