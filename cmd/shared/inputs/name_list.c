#define _GNU_SOURCE
#include "cmd/shared/inputs/name_list.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"
#include "ivon/input.h"
#include "ivon/targets.h"

enum { SIZE_LIMIT = 1 << 26 /* bytes */ };

static int name_list_read_bytes(struct name_list *list, FILE *file, const char *kind, size_t *size,
                                struct ivon_error *error)
{
    enum { PIECE = 1 << 16 };
    size_t got = 1;
    for (*size = 0; got && *size <= SIZE_LIMIT; *size += got) {
        list->text = xreallocarray(list->text, *size + PIECE + 1, 1);
        got = fread(list->text + *size, 1, PIECE, file);
    }
    list->text[*size] = '\0';
    if (ferror(file))
        return error_input(error, list->path, "read", strerror(errno));
    if (*size > SIZE_LIMIT)
        return error_fill(error, IVON_ERROR_DATA, "%s: no %s: more than %d bytes", list->path, kind,
                          SIZE_LIMIT);
    return strlen(list->text) != *size
               ? error_fill(error, IVON_ERROR_DATA, "%s: no %s: there is a null byte in it",
                            list->path, kind)
               : 0;
}

static void name_list_split(struct name_list *list, size_t size)
{
    static const char mark[] = "\xef\xbb\xbf"; /* of UTF-8, as some programs write it */
    size_t lines = 1;
    for (size_t i = 0; i < size; i++)
        lines += list->text[i] == '\n';
    list->names = xcalloc(lines, sizeof *list->names);
    for (char *line = list->text + (strncmp(list->text, mark, 3) == 0 ? 3 : 0); *line;) {
        size_t length = strcspn(line, "\n");
        char *next = line + length + (line[length] == '\n');
        line[length] = '\0';
        if (length && line[length - 1] == '\r')
            line[length - 1] = '\0';
        list->names[list->count++] = line;
        line = next;
    }
}

int name_list_read(struct name_list *list, const char *path, const char *kind,
                   struct ivon_error *error)
{
    size_t size = 0;
    FILE *file;
    *list = (struct name_list){.path = path};
    int code = ivon_input_open(&file, path, error);
    if (code)
        return code;
    code = name_list_read_bytes(list, file, kind, &size, error);
    fclose(file);
    if (!code)
        name_list_split(list, size);
    return code;
}

int name_list_read_classes(struct name_list *list, const char *path, struct ivon_error *error)
{
    struct ivon_error found = {0};
    int code = name_list_read(list, path, "list of classes", error);
    if (code)
        return code;
    if (!list->count)
        return error_fill(error, IVON_ERROR_DATA, "%s: no list of classes: it is empty", path);
    code = ivon_class_names_check((const char *const *)list->names, list->count, &found);
    return code ? error_fill(error, IVON_ERROR_DATA, "%s: %s", path, found.message) : 0;
}

void name_list_release(struct name_list *list)
{
    free(list->names);
    free(list->text);
}
