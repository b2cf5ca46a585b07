/* Completions for shells, written from the commands' option tables. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "cmd/shared/command.h"
#include "cmd/shared/options/walk.h"
#include "ivon/acquire.h"
#include "ivon/corrupt.h"
#include "ivon/sensitivity.h"
#include "ivon/train.h"

typedef void option_printer(const struct command *command, const struct argp_option *option);

static void completion_print_options(const struct command *command, option_printer *print)
{
    const struct argp_option *option;
    for (struct option_walk walk = option_walk(command); (option = option_next(&walk));)
        if (!(option->flags & OPTION_HIDDEN))
            print(command, option);
}

/* The values of an option whose argument does not list them, one after the other from 0, and null
   at the end. */
struct value_names {
    const char *option;
    const char *(*name)(size_t i);
};

static const char *score_name(size_t i)
{
    const struct ivon_score_traits *traits = ivon_score_traits((enum ivon_score)i);
    return traits ? traits->name : NULL;
}

static const char *acquisition_name(size_t i)
{
    const struct ivon_acquisition_traits *traits = ivon_acquisition_traits(
        (enum ivon_acquisition)i);
    return traits ? traits->name : NULL;
}

static const char *corruption_name(size_t i)
{
    return ivon_corruption_name((enum ivon_corruption)i);
}

static const struct value_names value_names[] = {{"acquire", acquisition_name},
                                                 {"arch", ivon_architecture_usage},
                                                 {"score", score_name},
                                                 {"shift", corruption_name}};

/* How far an alternative goes: up to a bar that is not in brackets, a blank or the end. */
static size_t alternative_length(const char *list)
{
    size_t length = 0;
    for (bool within = false; list[length] && list[length] != ' '; length++) {
        if (list[length] == '[' || list[length] == ']')
            within = list[length] == '[';
        else if (list[length] == '|' && !within)
            break;
    }
    return length;
}

/* How much of an alternative is written as it is: "logit:" of "logit:C", "mean" of "mean[:OF]". */
static size_t alternative_literal(const char *text)
{
    size_t length = 0;
    while (!strchr("| [<", text[length]) && !(text[length] >= 'A' && text[length] <= 'Z'))
        length++;
    return length;
}

/* Of alternatives such as "grid:N|grid:FROM:TO|mean[:OF]|FILE" up to a blank what is written as it
   is, once: " grid: mean". */
static void print_alternatives(const char *list)
{
    const char *before = "";
    size_t before_length = 0;
    while (*list && *list != ' ') {
        size_t whole = alternative_length(list), length = alternative_literal(list);
        if (length && (length != before_length || strncmp(list, before, length) != 0))
            printf(" %.*s", (int)length, list);
        before = list;
        before_length = length;
        list += whole + (list[whole] == '|');
    }
}

/* Prints a blank before each value of an option that is one of a few, or nothing. Options name a
   score with hyphens. */
static void print_values(const struct argp_option *option)
{
    if (option->arg && strchr(option->arg, '|')) {
        print_alternatives(option->arg);
        return;
    }
    for (size_t i = 0; i < sizeof value_names / sizeof *value_names; i++) {
        const char *name;
        if (strcmp(option->name, value_names[i].option) != 0)
            continue;
        for (size_t value = 0; (name = value_names[i].name(value)); value++) {
            putchar(' ');
            for (const char *end = name + alternative_literal(name); name < end; name++)
                putchar(*name == '_' ? '-' : *name);
        }
    }
}

/* Returns whether print_values prints some. */
static bool is_choice(const struct argp_option *option)
{
    for (size_t i = 0; i < sizeof value_names / sizeof *value_names; i++)
        if (strcmp(option->name, value_names[i].option) == 0)
            return true;
    const char *list = option->arg ? strchr(option->arg, '|') : NULL;
    return list &&
           ((option->arg[0] >= 'a' && option->arg[0] <= 'z') || (list[1] >= 'a' && list[1] <= 'z'));
}

/* The arguments of a command whose first is one of a few, "ranking|images FILE..."; else null. */
static const char *first_argument(const struct command *command)
{
    const char *list = command->argp->args_doc;
    return list && strcspn(list, "|") < strcspn(list, " ") ? list : NULL;
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
    print_values(option);
    puts("' ;;");
}

/* The values of options, and of what commands take first. */
static void print_bash_values(void)
{
    puts("  case $command:$option in");
    for (const struct command *command = commands; command->name; command++)
        completion_print_options(command, bash_choice);
    puts("  esac\n"
         "  case $command:$COMP_CWORD in");
    for (const struct command *command = commands; command->name; command++) {
        const char *first = first_argument(command);
        if (!first)
            continue;
        printf("    %s:$at) words='", command->name);
        print_alternatives(first);
        puts("' ;;");
    }
    puts("  esac");
}

static void print_bash(void)
{
    puts("# bash completion for ivon\n"
         "_ivon() {\n"
         "  local current=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[0]##*/}\n"
         "  local option= words=\n"
         "  COMPREPLY=()\n"
         "  local at=1\n"
         "  command=${command#ivon-}\n"
         "  if [[ $command == ivon ]]; then");
    fputs("    local all='", stdout);
    for (const struct command *command = commands; command->name; command++)
        printf(" %s", command->name);
    puts("'\n"
         "    case $COMP_CWORD:${COMP_WORDS[1]} in\n"
         "      1:*) words=\"help completion$all\" ;;\n"
         "      2:help) words=$all ;;\n"
         "      2:completion) words='bash zsh fish' ;;\n"
         "    esac\n"
         "    if [[ -n $words ]]; then\n"
         "      COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
         "      return\n"
         "    fi\n"
         "    command=${COMP_WORDS[1]} at=2\n"
         "  fi\n"
         "  # '--option=val' arrives as '--option' '=' 'val'\n"
         "  if [[ $current == = ]]; then current=; option=${COMP_WORDS[COMP_CWORD-1]}\n"
         "  elif [[ ${COMP_WORDS[COMP_CWORD-1]} == = ]]; then option=${COMP_WORDS[COMP_CWORD-2]}\n"
         "  fi");
    print_bash_values();
    puts("  if [[ -n $words && $current != -* ]]; then\n"
         "    COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
         "    ((${#COMPREPLY[@]})) && return\n"
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
        print_values(option);
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
        const char *first = first_argument(command);
        if (first) {
            fputs("    '1:what:(", stdout);
            print_alternatives(first);
            puts(")' \\");
        }
        puts("    '*:file:_files'\n}");
    }
    puts("local command=${service#ivon-}\n"
         "if [[ $service == ivon ]]; then\n"
         "  local -a all=(");
    for (const struct command *command = commands; command->name; command++)
        printf("    '%s:%s'\n", command->name, command->summary);
    puts("  )\n"
         "  if ((CURRENT == 2)); then\n"
         "    all+=('help:show a command'\\''s options' \\\n"
         "      'completion:print completions for a shell')\n"
         "    _describe command all\n"
         "    return\n"
         "  fi\n"
         "  command=${words[2]}\n"
         "  if ((CURRENT == 3)) && [[ $command == help ]]; then _describe command all; return; fi\n"
         "  if ((CURRENT == 3)) && [[ $command == completion ]]; then\n"
         "    _values shell bash zsh fish; return\n"
         "  fi\n"
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
            print_values(option);
            putchar('\'');
        } else if (option->arg) {
            fputs(completion_is_file(option) ? " -r" : " -x", stdout);
        }
        putchar('\n');
    }
}

static void fish_first_argument(const struct command *command)
{
    const char *first = first_argument(command);
    if (!first)
        return;
    for (int separate = 0; separate < 2; separate++) {
        printf(separate ? "complete -c ivon-%s -a '"
                        : "complete -c ivon -n '__fish_seen_subcommand_from %s' -a '",
               command->name);
        print_alternatives(first);
        puts("'");
    }
}

static void print_fish(void)
{
    for (const struct command *command = commands; command->name; command++)
        printf("complete -c ivon -f -n __fish_use_subcommand -a %s -d '%s'\n", command->name,
               command->summary);
    puts("complete -c ivon -f -n __fish_use_subcommand -a 'help completion'");
    fputs("complete -c ivon -f -n '__fish_seen_subcommand_from help' -a '", stdout);
    for (const struct command *command = commands; command->name; command++)
        printf(" %s", command->name);
    puts("'\n"
         "complete -c ivon -f -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'");
    for (const struct command *command = commands; command->name; command++)
        fish_first_argument(command);
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
