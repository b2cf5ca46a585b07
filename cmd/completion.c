/* Completions for shells, written from the commands' option tables. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/command.h"
#include "cmd/shared/option_walk.h"

typedef void option_printer(const struct command *command, const struct argp_option *option);

static void completion_print_options(const struct command *command, option_printer *print)
{
    const struct argp_option *option;
    for (struct option_walk walk = option_walk(command); (option = option_next(&walk));)
        if (!(option->flags & OPTION_HIDDEN))
            print(command, option);
}

/* True if an argument such as "error|base|skip" is a list to choose from. */
static bool is_choice(const struct argp_option *option)
{
    return option->arg && strchr(option->arg, '|');
}

static bool completion_is_file(const struct argp_option *option)
{
    return option->arg && (strcmp(option->arg, "FILE") == 0 || strcmp(option->arg, "OUT") == 0);
}

static void bash_option(const struct command *command, const struct argp_option *option)
{
    (void)command;
    printf(" --%s%s", option->name, option->arg ? "=" : "");
}

static void bash_choice(const struct command *command, const struct argp_option *option)
{
    if (!is_choice(option))
        return;
    printf("    %s:--%s) words='", command->name, option->name);
    for (const char *byte = option->arg; *byte; byte++)
        putchar(*byte == '|' ? ' ' : *byte);
    puts("' ;;");
}

static void print_bash(void)
{
    puts("# bash completion for ivon\n"
         "_ivon() {\n"
         "  local current=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[0]##*/}\n"
         "  local option= words=\n"
         "  COMPREPLY=()\n"
         "  command=${command#ivon-}\n"
         "  if [[ $command == ivon ]]; then\n"
         "    if ((COMP_CWORD == 1)); then");
    fputs("      COMPREPLY=($(compgen -W 'help completion", stdout);
    for (const struct command *command = commands; command->name; command++)
        printf(" %s", command->name);
    puts("' -- \"$current\"))\n"
         "      return\n"
         "    fi\n"
         "    command=${COMP_WORDS[1]}\n"
         "  fi\n"
         "  # '--option=val' arrives as '--option' '=' 'val'\n"
         "  if [[ $current == = ]]; then current=; option=${COMP_WORDS[COMP_CWORD-1]}\n"
         "  elif [[ ${COMP_WORDS[COMP_CWORD-1]} == = ]]; then option=${COMP_WORDS[COMP_CWORD-2]}\n"
         "  fi\n"
         "  case $command:$option in");
    for (const struct command *command = commands; command->name; command++)
        completion_print_options(command, bash_choice);
    puts("  esac\n"
         "  if [[ -n $words ]]; then\n"
         "    COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
         "    return\n"
         "  fi\n"
         "  if [[ $current != -* ]]; then COMPREPLY=($(compgen -f -- \"$current\")); return; fi\n"
         "  case $command in");
    for (const struct command *command = commands; command->name; command++) {
        printf("    %s) words='", command->name);
        completion_print_options(command, bash_option);
        puts("' ;;");
    }
    puts("  esac\n"
         "  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
         "  [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace\n"
         "}");
    fputs("complete -o filenames -F _ivon ivon", stdout);
    for (const struct command *command = commands; command->name; command++)
        printf(" ivon-%s", command->name);
    putchar('\n');
}

/* Text within single quotes, brackets and colons escaped as _arguments wants. */
static void zsh_text(const char *text)
{
    for (; *text; text++) {
        if (strchr("[]:\\", *text))
            putchar('\\');
        if (*text == '\'')
            fputs("'\\''", stdout);
        else
            putchar(*text);
    }
}

static void zsh_option(const struct command *command, const struct argp_option *option)
{
    (void)command;
    printf("    '--%s%s[", option->name, option->arg ? "=" : "");
    zsh_text(option->doc);
    putchar(']');
    if (is_choice(option)) {
        fputs(":value:(", stdout);
        for (const char *byte = option->arg; *byte; byte++)
            putchar(*byte == '|' ? ' ' : *byte);
        putchar(')');
    } else if (option->arg) {
        printf(":%s:%s", option->arg, completion_is_file(option) ? "_files" : "");
    }
    puts("' \\");
}

static void print_zsh(void)
{
    fputs("#compdef ivon", stdout);
    for (const struct command *command = commands; command->name; command++)
        printf(" ivon-%s", command->name);
    putchar('\n');
    for (const struct command *command = commands; command->name; command++) {
        printf("_ivon_%s() {\n  _arguments \\\n", command->name);
        completion_print_options(command, zsh_option);
        puts("    '*:file:_files'\n}");
    }
    puts("local command=${service#ivon-}\n"
         "if [[ $service == ivon ]]; then\n"
         "  if ((CURRENT == 2)); then\n"
         "    local -a all=(");
    for (const struct command *command = commands; command->name; command++)
        printf("      '%s:%s'\n", command->name, command->summary);
    puts("      'help:show a command'\\''s options' 'completion:print completions for a shell')\n"
         "    _describe command all\n"
         "    return\n"
         "  fi\n"
         "  command=${words[2]}\n"
         "  shift words; ((CURRENT--))\n"
         "fi\n"
         "(( $+functions[_ivon_$command] )) && _ivon_$command");
}

static void fish_option(const struct command *command, const struct argp_option *option)
{
    for (int separate = 0; separate < 2; separate++) {
        if (separate)
            printf("complete -c ivon-%s -l %s", command->name, option->name);
        else
            printf("complete -c ivon -n '__fish_seen_subcommand_from %s' -l %s", command->name,
                   option->name);
        if (option->key > ' ' && option->key < 127 && option->key != '?')
            printf(" -s %c", option->key);
        fputs(" -d '", stdout);
        for (const char *byte = option->doc; *byte; byte++) {
            if (*byte == '\'' || *byte == '\\')
                putchar('\\');
            putchar(*byte);
        }
        putchar('\'');
        if (is_choice(option)) {
            fputs(" -x -a '", stdout);
            for (const char *byte = option->arg; *byte; byte++)
                putchar(*byte == '|' ? ' ' : *byte);
            putchar('\'');
        } else if (option->arg) {
            fputs(completion_is_file(option) ? " -r" : " -x", stdout);
        }
        putchar('\n');
    }
}

static void print_fish(void)
{
    for (const struct command *command = commands; command->name; command++)
        printf("complete -c ivon -f -n __fish_use_subcommand -a %s -d '%s'\n", command->name,
               command->summary);
    puts("complete -c ivon -f -n __fish_use_subcommand -a 'help completion'");
    for (const struct command *command = commands; command->name; command++)
        completion_print_options(command, fish_option);
}

int completion_print(const char *shell)
{
    if (strcmp(shell, "bash") == 0)
        print_bash();
    else if (strcmp(shell, "zsh") == 0)
        print_zsh();
    else if (strcmp(shell, "fish") == 0)
        print_fish();
    else {
        fputs("ivon: completion: expected one of bash, zsh, fish\n", stderr);
        return EX_USAGE;
    }
    return 0;
}
