/*
 * The pickle machine: opcodes work on a stack of nodes, with marks in it, and a memo of nodes. Each
 * function returns 0, or a negative code with the error described.
 */
#ifndef FORMATS_TORCH_PICKLE_MACHINE_H
#define FORMATS_TORCH_PICKLE_MACHINE_H

#include "formats/torch/pickle.h"

enum { PICKLE_BLOCK = 4096 };

struct pickle_block {
    struct pickle_block *next;
    size_t used;
    struct pickle_node nodes[PICKLE_BLOCK];
};

struct pickle {
    struct pickle_block *blocks;
    size_t node_count;
    struct pickle_node *root;
};

struct machine {
    struct pickle *pickle;
    const char *name;
    const unsigned char *start, *at, *end;
    const unsigned char *opcode; /* the one that runs */
    struct pickle_node **stack;
    size_t stack_count, stack_capacity;
    size_t marks[PICKLE_NESTING_MAX]; /* how many nodes were on the stack */
    size_t mark_count;
    struct pickle_node **memo;
    size_t memo_capacity, memo_count;
    struct ivon_error *error;
};

struct opcode {
    const char *name;                                  /* null: there is no such */
    int (*run)(struct machine *machine, int argument); /* null: not read here */
    int argument;
};
extern const struct opcode pickle_opcodes[256];

/* Describes what is wrong with the opcode that runs. */
int machine_fail(struct machine *machine, const char *why);

/* How many bytes are left. */
size_t machine_left(const struct machine *machine);

/* Takes a little-endian number of `size` bytes. */
int machine_read_number(struct machine *machine, size_t size, uint64_t *number);

/* Takes as many bytes as a number of `size` bytes in front of them says. */
int machine_read_run(struct machine *machine, size_t size, const char **text, size_t *length);

int machine_new_node(struct machine *machine, enum pickle_kind kind, struct pickle_node **node);

/* Grows an array to hold `count` pointers; new ones are null. */
int machine_grow(struct machine *machine, struct pickle_node ***items, size_t *capacity,
                 size_t count);

int machine_push(struct machine *machine, struct pickle_node *node);
int machine_pop(struct machine *machine, struct pickle_node **node);

/* The node that stays on the stack. */
int machine_top(struct machine *machine, struct pickle_node **node);

/* How many nodes lie above the last mark. */
size_t machine_available(const struct machine *machine);

/* Takes away the last mark; *count nodes above it remain, for the caller to take. */
int machine_pop_mark(struct machine *machine, size_t *count);

/* A node has another in it. */
int machine_deepen(struct machine *machine, struct pickle_node *node,
                   const struct pickle_node *inner);

/* Appends the uppermost `count` nodes to a container's items, and takes them from the stack. */
int machine_append_items(struct machine *machine, struct pickle_node *node, size_t count);

#endif
