/*
 * Pickles (protocols 2 to 5) as trees of inert nodes. Nothing that a pickle names is ever imported,
 * called or built: an object of any class is a node that remembers what it would have been made of.
 * Only dictionaries of the standard library are taken for what they are.
 *
 * Nodes may have several parents, or themselves as an ancestor: whoever walks must not expand what
 * was seen. Parsing takes time and memory in proportion to the bytes.
 */
#ifndef FORMATS_TORCH_PICKLE_H
#define FORMATS_TORCH_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ivon/error.h"

/* Limits, each with an error of its own. */
enum {
    PICKLE_NESTING_MAX = 1000, /* as deep as Python's own pickles get */
    PICKLE_NODES_MAX = 1 << 22,
    PICKLE_NAME_MAX = 1024,      /* bytes of a module's or class's name */
    PICKLE_TEXT_MAX = 256 << 20, /* bytes of a string */
};

enum pickle_kind {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INTEGER, /* of 64 bits; longer ones are objects of class int */
    PICKLE_FLOAT,
    PICKLE_STRING,
    PICKLE_BYTES,
    PICKLE_LIST,
    PICKLE_TUPLE,
    PICKLE_SET,
    PICKLE_DICT,       /* also collections.OrderedDict and defaultdict */
    PICKLE_GLOBAL,     /* a class or function, by its name */
    PICKLE_PERSISTENT, /* what lies outside of the pickle, by its arguments */
    PICKLE_OBJECT      /* what a callable would have made of its arguments */
};

struct pickle_node {
    uint8_t kind;   /* enum pickle_kind */
    bool seen;      /* for whoever walks; false at first */
    uint32_t depth; /* of what is in it */
    union {
        int64_t integer; /* also of a bool */
        double number;
        struct { /* STRING, BYTES; not terminated */
            const char *text;
            size_t length;
        };
        struct { /* LIST, TUPLE, SET; of a DICT, keys and values alternate */
            struct pickle_node **items;
            size_t count, capacity;
        };
        struct { /* GLOBAL */
            const char *module, *name;
            uint32_t module_length, name_length;
        };
        struct { /* OBJECT, any of which may be null; PERSISTENT: only arguments */
            struct pickle_node *callable, *arguments, *state;
        };
    };
};

struct pickle;

/* Borrows the bytes until pickle_free. `name` is that of their file, for messages. */
int pickle_parse(struct pickle **pickle, const char *name, const unsigned char *data, size_t size,
                 struct ivon_error *error);
void pickle_free(struct pickle *pickle);

struct pickle_node *pickle_root(const struct pickle *pickle);

/* Return whether a node, which may be null, is that string, or that class or function. */
bool pickle_is_string(const struct pickle_node *node, const char *text);
bool pickle_is_global(const struct pickle_node *node, const char *module, const char *name);

/* The items of a list or tuple, or null with a count of 0 for anything else. */
struct pickle_node **pickle_sequence(const struct pickle_node *node, size_t *count);

/* A node's dictionary: itself, or the attributes of an argparse.Namespace or SimpleNamespace; null
   for anything else. */
struct pickle_node *pickle_mapping(const struct pickle_node *node);

/* The value that a dictionary, which may be null, has last for a key; null when it has none. */
struct pickle_node *pickle_get(const struct pickle_node *dictionary, const char *key);

enum { PICKLE_DESCRIPTION = 256 };

/* "a list", "an integer", "an object of 'os.system'", in the caller's buffer. */
const char *pickle_describe(const struct pickle_node *node, char text[PICKLE_DESCRIPTION]);

#endif
