#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "cmd/shared/command.h"
#include "cmd/shared/options/mistake.h"
#include "cmd/shared/process/ranks.h"
#include "cmd/shared/report.h"
#include "ivon/ivon.h"

#define COMMAND_ROW(name, summary, options, run, by_ranks) {name, summary, &options, run, by_ranks},
const struct command commands[] = {COMMANDS(COMMAND_ROW){0}};

static void print_version(FILE *stream, struct argp_state *state)
{
    (void)state;
    fprintf(stream, "ivon %s\nMPI: %s\n", ivon_version(), IVON_MPI_FOUND);
}

static void print_commands(FILE *stream)
{
    fputs("Usage: ivon COMMAND [OPTION...] [ARGUMENT...]\n"
          "What a variational posterior makes possible after training.\n\n",
          stream);
    for (const struct command *command = commands; command->name; command++)
        fprintf(stream, "  %-12s %s\n", command->name, command->summary);
    fputs("  help         show a command's options: ivon help COMMAND\n"
          "  completion   print completions for a shell: ivon completion bash|zsh|fish\n\n"
          "'ivon COMMAND' and 'ivon-COMMAND' are the same. See ivon(1).\n",
          stream);
}

static const struct command *find_command(const char *name)
{
    for (const struct command *command = commands; command->name; command++)
        if (strcmp(command->name, name) == 0)
            return command;
    return NULL;
}

static int run_command(const struct command *command, int argc, char **argv)
{
    static char name[64]; /* messages name it until the end */
    snprintf(name, sizeof name, "ivon-%s", command->name);
    argv[0] = name;
    program_invocation_name = program_invocation_short_name = name;
    int status = ranks_join(command);
    if (!status)
        status = mistaken_option(command, argc, argv);
    return status ? status : command->run(argc, argv);
}

static int unknown_command(const char *name)
{
    bool option = name[0] == '-';
    struct nearest near = nearest(name, strlen(name));
    for (const struct command *command = commands; command->name && !option; command++)
        nearest_offer(&near, command->name);
    nearest_offer(&near, option ? "--help" : "help");
    nearest_offer(&near, option ? "--version" : "completion");
    report_note("%s'%s'%s; %s%s%s", option ? "unknown option " : "", name,
                option ? "" : " is no command",
                near.name ? "did you mean '" : "'ivon help' lists all", near.name ? near.name : "",
                near.name ? "'?" : "");
    return EX_USAGE;
}

static int help(int argc, char **argv)
{
    char option[] = "--help";
    char *arguments[] = {argv[0], option, NULL};
    if (argc < 2) {
        print_commands(stdout);
        return 0;
    }
    const struct command *command = find_command(argv[1]);
    return command ? run_command(command, 2, arguments) : unknown_command(argv[1]);
}

static int dispatch(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    const char *name = slash ? slash + 1 : argv[0];
    const struct command *command = strncmp(name, "ivon-", 5) == 0 ? find_command(name + 5) : NULL;
    if (command)
        return run_command(command, argc, argv);
    if (argc < 2) {
        print_commands(stderr);
        return EX_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        print_version(stdout, NULL);
        return 0;
    }
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
        strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "-?") == 0)
        return help(argc - 1, argv + 1);
    if (strcmp(argv[1], "completion") == 0)
        return completion_print(argc == 3 ? argv[2] : "");
    command = find_command(argv[1]);
    return command ? run_command(command, argc - 1, argv + 1) : unknown_command(argv[1]);
}

/* Inputs are mapped: one that another process cuts short while it is read ends here. */
static void on_bus_error(int signal)
{
    static const char message[] = "ivon: an input file became shorter while it was read\n";
    (void)signal;
    ssize_t written = write(STDERR_FILENO, message, sizeof message - 1);
    (void)written;
    ivon_outputs_abandon();
    _exit(EX_IOERR);
}

/* A success is one when its output is written, and that of --help too, after which argp exits; and
   when it is one on all ranks. */
static void flush_output(int status, void *unused)
{
    (void)unused;
    bool written = (!fflush(stdout) && !ferror(stdout)) || status;
    if (!written)
        fprintf(stderr, "%s: cannot write standard output: %s\n", program_invocation_short_name,
                strerror(errno));
    int all = ranks_leave(written ? status : EX_IOERR);
    if (all != status)
        _exit(all);
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_bus_error};
    sigaction(SIGBUS, &action, NULL);
    argp_program_version_hook = print_version;
    argp_err_exit_status = EX_USAGE;
    if (argc < 1)
        return EX_USAGE;
    on_exit(flush_output, NULL);
    return dispatch(argc, argv);
}
