/* The inside of the command ivon-info: parsed and run by info.c, which prints text; info/json.c
   prints JSON, info/check.c looks for what is wrong, info/contents.c has what they share. */
#ifndef CMD_INFO_INFO_H
#define CMD_INFO_INFO_H

#include <jansson.h>

#include "cmd/shared/inputs/open.h"
#include "cmd/shared/options/options.h"
#include "ivon/ivon.h"

struct info_command {
    struct common_options common;
    bool tensors, header, check, json;
    struct open_options open;
    size_t memory;
    char **files;
    int file_count;
};

/* One file, as far as it was read. */
struct info_file {
    struct ivon_source *source;
    struct ivon_structure structure;
    struct ivon_summaries *summaries;   /* null with --header, as the next */
    struct ivon_inspection *inspection; /* of the structure's tensors */
    json_t *findings;                   /* of --check; else null */
};

/* The contents of one file, in numbers. */
struct info_contents {
    size_t tensors[IVON_PART_COUNT];
    uint64_t elements[IVON_PART_COUNT];
    uint64_t bytes[IVON_PART_COUNT];
};

struct info_contents info_count(const struct ivon_source *source);

/* The tensor that a summary describes: the mean, or a Hessian without one. */
const struct ivon_tensor *info_described(const struct ivon_source *source,
                                         const struct ivon_summary *summary);

/* γ of the whole covariance. */
double info_effective(const struct info_file *file);

void info_print_json(const struct info_command *command, const struct info_file *file);

/* The findings: objects with a tensor (or null), what was found, and what to do. */
json_t *info_check(const struct info_file *file);

#endif
