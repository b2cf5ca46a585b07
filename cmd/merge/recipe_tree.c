#include "cmd/merge/recipe_tree.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"
#include "ivon/input.h"

enum {
    SIZE_LIMIT = 1 << 20,
    NODES_MAX = 1 << 16,
    DEPTH_MAX = 16,
    KEYS_MAX = 64, /* of a map: each key is compared with those before it */
};

struct tree_reader {
    const char *path;
    yaml_parser_t parser;
    size_t nodes;
    struct ivon_error *error;
};

int recipe_error(struct ivon_error *error, const char *path, size_t line, size_t column,
                 const char *format, ...)
{
    char message[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return error_fill(error, IVON_ERROR_DATA, "%s:%zu:%zu: %s", path, line, column, message);
}

void recipe_tree_free(struct recipe_node *node)
{
    while (node) {
        struct recipe_node *next = node->next;
        recipe_tree_free(node->first);
        free(node->text);
        free(node->key);
        free(node);
        node = next;
    }
}

static int mark_error(struct tree_reader *reader, yaml_mark_t mark, const char *problem)
{
    return recipe_error(reader->error, reader->path, mark.line + 1, mark.column + 1, "%s", problem);
}

/* The next event, to be deleted. */
static int next_event(struct tree_reader *reader, yaml_event_t *event)
{
    yaml_parser_t *parser = &reader->parser;
    if (yaml_parser_parse(parser, event))
        return 0;
    memset(event, 0, sizeof *event);
    if (parser->error == YAML_MEMORY_ERROR)
        return error_memory(reader->error);
    if (parser->error == YAML_READER_ERROR)
        return error_fill(reader->error, IVON_ERROR_DATA, "%s: no text at byte %zu: %s",
                          reader->path, parser->problem_offset, parser->problem);
    return mark_error(reader, parser->problem_mark, parser->problem ? parser->problem : "no YAML");
}

/* Refuses what is in YAML, but not in recipes. */
static int check_event(struct tree_reader *reader, const yaml_event_t *event)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    }
    if (anchor || event->type == YAML_ALIAS_EVENT)
        return mark_error(reader, event->start_mark, "anchors and aliases are not supported");
    if (tag)
        return mark_error(reader, event->start_mark, "tags are not supported");
    if (event->type == YAML_SCALAR_EVENT &&
        memchr(event->data.scalar.value, '\0', event->data.scalar.length))
        return mark_error(reader, event->start_mark, "a text with a NUL character");
    return 0;
}

static int read_node(struct tree_reader *reader, const yaml_event_t *event, int depth,
                     struct recipe_node **out);

/* Reads a key; a text. Fails if the map has it already. */
static int read_key(struct tree_reader *reader, const struct recipe_node *map,
                    const yaml_event_t *event, char **key)
{
    size_t count = 0;
    int code = check_event(reader, event);
    if (code)
        return code;
    if (event->type != YAML_SCALAR_EVENT)
        return mark_error(reader, event->start_mark, "a key that is no text");
    const char *text = (const char *)event->data.scalar.value;
    for (const struct recipe_node *other = map->first; other; other = other->next, count++)
        if (strcmp(other->key, text) == 0)
            return recipe_error(reader->error, reader->path, event->start_mark.line + 1,
                                event->start_mark.column + 1,
                                "key '%s' a second time, after line %zu", text, other->key_line);
    if (count == KEYS_MAX)
        return mark_error(reader, event->start_mark, "too many keys");
    *key = xstrdup(text);
    return 0;
}

/* Reads the values of a list or map up to its end. */
static int read_children(struct tree_reader *reader, struct recipe_node *parent, int depth)
{
    struct recipe_node **last = &parent->first;
    yaml_event_type_t end = parent->kind == RECIPE_MAP ? YAML_MAPPING_END_EVENT
                                                       : YAML_SEQUENCE_END_EVENT;
    for (;;) {
        yaml_event_t event;
        char *key = NULL;
        int code = next_event(reader, &event);
        yaml_mark_t place = event.start_mark;
        if (!code && event.type == end) {
            yaml_event_delete(&event);
            return 0;
        }
        if (!code && parent->kind == RECIPE_MAP) {
            code = read_key(reader, parent, &event, &key);
            yaml_event_delete(&event);
            if (!code)
                code = next_event(reader, &event);
            else
                memset(&event, 0, sizeof event);
        }
        struct recipe_node *child = NULL;
        if (!code)
            code = read_node(reader, &event, depth, &child);
        yaml_event_delete(&event);
        if (!child) {
            free(key);
            return code;
        }
        child->key = key;
        child->key_line = place.line + 1;
        child->key_column = place.column + 1;
        *last = child;
        last = &child->next;
        if (code)
            return code;
    }
}

/* Reads a value that begins with an event. What there is of it comes back on failure, too. */
static int read_node(struct tree_reader *reader, const yaml_event_t *event, int depth,
                     struct recipe_node **out)
{
    int code = check_event(reader, event);
    if (code)
        return code;
    if (++reader->nodes > NODES_MAX)
        return mark_error(reader, event->start_mark, "too many values");
    if (depth == DEPTH_MAX)
        return mark_error(reader, event->start_mark, "values nested too deeply");
    struct recipe_node *node = xcalloc(1, sizeof *node);
    node->line = event->start_mark.line + 1;
    node->column = event->start_mark.column + 1;
    *out = node;
    if (event->type == YAML_SCALAR_EVENT) {
        node->kind = RECIPE_TEXT;
        node->text = xstrdup((const char *)event->data.scalar.value);
        node->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        return 0;
    }
    node->kind = event->type == YAML_MAPPING_START_EVENT ? RECIPE_MAP : RECIPE_LIST;
    return read_children(reader, node, depth + 1);
}

/* Reads the one document that a text holds. */
static int read_document(struct tree_reader *reader, struct recipe_node **tree)
{
    static const yaml_event_type_t expected[] = {YAML_STREAM_START_EVENT, YAML_DOCUMENT_START_EVENT,
                                                 YAML_NO_EVENT, YAML_DOCUMENT_END_EVENT,
                                                 YAML_STREAM_END_EVENT};
    int code = 0;
    for (int i = 0; i < 5 && !code; i++) {
        yaml_event_t event;
        code = next_event(reader, &event);
        if (!code && expected[i] == YAML_NO_EVENT)
            code = read_node(reader, &event, 0, tree);
        else if (!code && event.type != expected[i])
            code = mark_error(reader, event.start_mark,
                              i == 1 ? "an empty recipe" : "a second document");
        yaml_event_delete(&event);
    }
    return code;
}

/* Reads a file's bytes, to be freed. */
static int read_file(char **text, size_t *size, const char *path, struct ivon_error *error)
{
    FILE *file;
    int code = ivon_input_open(&file, path, error);
    if (code)
        return code;
    *text = xmalloc(SIZE_LIMIT + 1);
    *size = fread(*text, 1, SIZE_LIMIT + 1, file);
    code = ferror(file) ? error_input(error, path, "read", strerror(errno)) : 0;
    fclose(file);
    if (!code && *size > SIZE_LIMIT)
        code = error_fill(error, IVON_ERROR_DATA, "%s: a recipe of more than %d bytes", path,
                          SIZE_LIMIT);
    return code;
}

int recipe_tree_read(struct recipe_node **tree, const char *path, struct ivon_error *error)
{
    struct tree_reader reader = {.path = path, .error = error};
    char *text = NULL;
    size_t size = 0;
    *tree = NULL;
    int code = read_file(&text, &size, path, error);
    if (!code && !yaml_parser_initialize(&reader.parser))
        code = error_memory(error);
    else if (!code) {
        yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, size);
        code = read_document(&reader, tree);
        yaml_parser_delete(&reader.parser);
    }
    free(text);
    if (code) {
        recipe_tree_free(*tree);
        *tree = NULL;
    }
    return code;
}
