/*
 * A recipe's text as a tree: YAML, of which JSON is a part, read by libyaml. Each value knows its
 * line and column. Aliases, which can make a short text a long one, and tags are refused; size,
 * depth and number of values are bounded.
 */
#ifndef CMD_MERGE_RECIPE_TREE_H
#define CMD_MERGE_RECIPE_TREE_H

#include <stdbool.h>
#include <stddef.h>

#include "ivon/error.h"

enum recipe_kind { RECIPE_TEXT, RECIPE_LIST, RECIPE_MAP };

struct recipe_node {
    enum recipe_kind kind;
    char *text;  /* of a text */
    bool quoted; /* a text that is no number and no null, whatever it looks like */
    size_t line, column;
    char *key; /* in a map; line and column of the key are its own */
    size_t key_line, key_column;
    struct recipe_node *first, *next; /* of a list or map; among its siblings */
};

/* Reads a file's tree, to be freed. Messages begin with the path, and line and column if known. */
int recipe_tree_read(struct recipe_node **tree, const char *path, struct ivon_error *error);
void recipe_tree_free(struct recipe_node *tree);

/* Fills in an error about a place of the recipe and returns IVON_ERROR_DATA. */
int recipe_error(struct ivon_error *error, const char *path, size_t line, size_t column,
                 const char *format, ...) __attribute__((format(printf, 5, 6)));

#endif
