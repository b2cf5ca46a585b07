/* --rename of ivon-merge: models whose tensors have the base's names by rules. */
#include <stdlib.h>
#include <string.h>

#include "cmd/merge/merge.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

int merge_rename(struct merge_command *command, struct ivon_source **source,
                 struct ivon_error *error)
{
    size_t count = ivon_source_tensor_count(*source);
    struct ivon_subset_item *items = xcalloc(count + 1, sizeof *items);
    struct ivon_source *renamed = NULL;
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        const struct ivon_tensor *tensor = ivon_source_tensor(*source, i);
        bool bytes = tensor->part == IVON_GRAPH || tensor->part == IVON_STRUCTURE;
        char *name = bytes ? xstrdup(tensor->name) : rename_apply(&command->rules, tensor->name);
        any |= strcmp(name, tensor->name) != 0;
        items[i] = (struct ivon_subset_item){i, name};
    }
    struct ivon_error why = {0};
    int code = any ? ivon_tensor_subset(&renamed, *source, ivon_source_header(*source), items,
                                        count, &why)
                   : 0;
    if (code)
        error_fill(error, code, "--rename: %s", why.message);
    if (!code && any) {
        command->originals = xreallocarray(command->originals, command->original_count + 1,
                                           sizeof *command->originals);
        command->originals[command->original_count++] = *source;
        *source = renamed;
    }
    for (size_t i = 0; i < count; i++)
        free((char *)items[i].name);
    free(items);
    return code;
}
