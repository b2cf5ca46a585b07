/* The pickle machine: opcodes work on a stack of nodes, with marks in it, and a memo of nodes. */
#include "formats/pickle.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"

enum { BLOCK = 4096, PROTOCOL_MAX = 5 };

struct block {
    struct block *next;
    size_t used;
    struct pickle_node nodes[BLOCK];
};

struct pickle {
    struct block *blocks;
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
    const char *name;
    int (*run)(struct machine *machine, int argument); /* null: not read here */
    int argument;
};
static const struct opcode opcodes[256];

static int fail(struct machine *machine, const char *why)
{
    return ivon_error_set(machine->error, IVON_ERROR_DATA, "%s: damaged pickle: byte %zu, %s: %s",
                          machine->name, (size_t)(machine->opcode - machine->start),
                          opcodes[*machine->opcode].name, why);
}

static size_t left(const struct machine *machine)
{
    return (size_t)(machine->end - machine->at);
}

/* Takes a little-endian number of `size` bytes. */
static int take_number(struct machine *machine, size_t size, uint64_t *number)
{
    *number = 0;
    if (left(machine) < size)
        return fail(machine, "the pickle ends here");
    for (size_t i = 0; i < size; i++)
        *number |= (uint64_t)machine->at[i] << 8 * i;
    machine->at += size;
    return 0;
}

/* Takes as many bytes as a number of `size` bytes in front of them says. */
static int take_run(struct machine *machine, size_t size, const char **text, size_t *length)
{
    uint64_t number = 0;
    int code = take_number(machine, size, &number);
    if (code)
        return code;
    if (number > PICKLE_TEXT_MAX)
        return fail(machine, "its length exceeds 256 MiB");
    if (number > left(machine))
        return fail(machine, "its length exceeds the pickle's");
    *text = (const char *)machine->at;
    *length = (size_t)number;
    machine->at += number;
    return 0;
}

/* Nodes and the stack. */

static int new_node(struct machine *machine, enum pickle_kind kind, struct pickle_node **node)
{
    struct pickle *pickle = machine->pickle;
    if (pickle->node_count == PICKLE_NODES_MAX)
        return fail(machine, "there are more than 4194304 objects");
    if (!pickle->blocks || pickle->blocks->used == BLOCK) {
        struct block *block = malloc(sizeof *block);
        if (!block)
            return ivon_error_memory(machine->error);
        block->next = pickle->blocks;
        block->used = 0;
        pickle->blocks = block;
    }
    *node = &pickle->blocks->nodes[pickle->blocks->used++];
    **node = (struct pickle_node){.kind = (uint8_t)kind};
    pickle->node_count++;
    return 0;
}

static int grow(struct machine *machine, struct pickle_node ***items, size_t *capacity,
                size_t count)
{
    if (count <= *capacity)
        return 0;
    size_t wanted = *capacity < 4 ? 4 : 2 * *capacity;
    wanted = wanted < count ? count : wanted;
    struct pickle_node **grown = realloc(*items, wanted * sizeof *grown);
    if (!grown)
        return ivon_error_memory(machine->error);
    memset(grown + *capacity, 0, (wanted - *capacity) * sizeof *grown);
    *items = grown;
    *capacity = wanted;
    return 0;
}

static int push(struct machine *machine, struct pickle_node *node)
{
    int code = grow(machine, &machine->stack, &machine->stack_capacity, machine->stack_count + 1);
    if (!code)
        machine->stack[machine->stack_count++] = node;
    return code;
}

/* How many nodes lie above the last mark. */
static size_t available(const struct machine *machine)
{
    size_t floor = machine->mark_count ? machine->marks[machine->mark_count - 1] : 0;
    return machine->stack_count - floor;
}

static int pop(struct machine *machine, struct pickle_node **node)
{
    if (!available(machine))
        return fail(machine, "the stack is empty");
    *node = machine->stack[--machine->stack_count];
    return 0;
}

/* The node that stays on the stack. */
static int top(struct machine *machine, struct pickle_node **node)
{
    int code = pop(machine, node);
    machine->stack_count += !code;
    return code;
}

/* Takes away the last mark; *count nodes above it remain, for the caller to take. */
static int pop_mark(struct machine *machine, size_t *count)
{
    if (!machine->mark_count)
        return fail(machine, "there is no mark");
    *count = available(machine);
    machine->mark_count--;
    return 0;
}

static int deepen(struct machine *machine, struct pickle_node *node,
                  const struct pickle_node *inner)
{
    if (inner->depth >= node->depth)
        node->depth = inner->depth + 1;
    return node->depth > PICKLE_NESTING_MAX ? fail(machine, "it nests deeper than 1000") : 0;
}

/* Appends the uppermost `count` nodes to a container's items, and takes them from the stack. */
static int append_items(struct machine *machine, struct pickle_node *node, size_t count)
{
    struct pickle_node **from = machine->stack + machine->stack_count - count;
    int code = grow(machine, &node->items, &node->capacity, node->count + count);
    for (size_t i = 0; i < count && !code; i++) {
        node->items[node->count++] = from[i];
        code = deepen(machine, node, from[i]);
    }
    machine->stack_count -= count;
    return code;
}

/* Plain values. */

static int push_kind(struct machine *machine, int kind)
{
    struct pickle_node *node = NULL;
    int code = new_node(machine, (enum pickle_kind)kind, &node);
    return code ? code : push(machine, node);
}

static int push_integer(struct machine *machine, enum pickle_kind kind, int64_t value)
{
    int code = push_kind(machine, (int)kind);
    if (!code)
        machine->stack[machine->stack_count - 1]->integer = value;
    return code;
}

static int push_bool(struct machine *machine, int value)
{
    return push_integer(machine, PICKLE_BOOL, value);
}

static int push_unsigned(struct machine *machine, int size)
{
    uint64_t number = 0;
    int code = take_number(machine, (size_t)size, &number);
    return code ? code : push_integer(machine, PICKLE_INTEGER, (int64_t)number);
}

static int push_signed(struct machine *machine, int size)
{
    uint64_t number = 0;
    int code = take_number(machine, (size_t)size, &number);
    return code ? code : push_integer(machine, PICKLE_INTEGER, (int32_t)(uint32_t)number);
}

static int push_global(struct machine *machine, const char *module, size_t module_length,
                       const char *name, size_t name_length)
{
    if (module_length > PICKLE_NAME_MAX || name_length > PICKLE_NAME_MAX)
        return fail(machine, "its name exceeds 1024 bytes");
    int code = push_kind(machine, PICKLE_GLOBAL);
    if (code)
        return code;
    struct pickle_node *node = machine->stack[machine->stack_count - 1];
    node->module = module;
    node->module_length = (uint32_t)module_length;
    node->name = name;
    node->name_length = (uint32_t)name_length;
    return 0;
}

/* Two's complement of any length: what 64 bits do not hold becomes an object. */
static int push_long(struct machine *machine, int size)
{
    const char *bytes = NULL;
    size_t length = 0;
    uint64_t number = 0;
    int code = take_run(machine, (size_t)size, &bytes, &length);
    if (code)
        return code;
    if (length > 8) {
        struct pickle_node *class = NULL;
        code = push_global(machine, "builtins", 8, "int", 3);
        if (!code)
            code = pop(machine, &class);
        if (!code)
            code = push_kind(machine, PICKLE_OBJECT);
        if (!code)
            machine->stack[machine->stack_count - 1]->callable = class;
        return code;
    }
    for (size_t i = 0; i < length; i++)
        number |= (uint64_t)(unsigned char)bytes[i] << 8 * i;
    if (length && length < 8 && (bytes[length - 1] & 0x80))
        number |= UINT64_MAX << 8 * length;
    return push_integer(machine, PICKLE_INTEGER, (int64_t)number);
}

static int push_float(struct machine *machine, int size)
{
    uint64_t bits = 0;
    int code = take_number(machine, (size_t)size, &bits);
    if (!code)
        code = push_kind(machine, PICKLE_FLOAT);
    if (!code) {
        bits = __builtin_bswap64(bits); /* the one big-endian number */
        memcpy(&machine->stack[machine->stack_count - 1]->number, &bits, sizeof bits);
    }
    return code;
}

static int push_run(struct machine *machine, enum pickle_kind kind, int size)
{
    const char *text = NULL;
    size_t length = 0;
    int code = take_run(machine, (size_t)size, &text, &length);
    if (!code)
        code = push_kind(machine, (int)kind);
    if (!code) {
        machine->stack[machine->stack_count - 1]->text = text;
        machine->stack[machine->stack_count - 1]->length = length;
    }
    return code;
}

static int push_string(struct machine *machine, int size)
{
    return push_run(machine, PICKLE_STRING, size);
}

static int push_bytes(struct machine *machine, int size)
{
    return push_run(machine, PICKLE_BYTES, size);
}

/* Containers. */

static int tuple_of(struct machine *machine, int count)
{
    struct pickle_node *tuple = NULL;
    if (available(machine) < (size_t)count)
        return fail(machine, "the stack is empty");
    int code = new_node(machine, PICKLE_TUPLE, &tuple);
    if (!code)
        code = append_items(machine, tuple, (size_t)count);
    return code ? code : push(machine, tuple);
}

static int collect(struct machine *machine, int kind)
{
    struct pickle_node *node = NULL;
    size_t count = 0;
    int code = pop_mark(machine, &count);
    if (!code && kind == PICKLE_DICT && count % 2)
        code = fail(machine, "a key has no value");
    if (!code)
        code = new_node(machine, (enum pickle_kind)kind, &node);
    if (!code)
        code = append_items(machine, node, count);
    return code ? code : push(machine, node);
}

/* Adds nodes to the container below them. What an object is told to add, it does not keep. */
static int add_items(struct machine *machine, enum pickle_kind kind, size_t count)
{
    if (available(machine) <= count)
        return fail(machine, "the stack is empty");
    struct pickle_node *node = machine->stack[machine->stack_count - count - 1];
    if (node->kind == PICKLE_OBJECT) {
        machine->stack_count -= count;
        return 0;
    }
    if (node->kind != kind)
        return fail(machine, "what it adds to is no such container");
    if (kind == PICKLE_DICT && count % 2)
        return fail(machine, "a key has no value");
    return append_items(machine, node, count);
}

static int add_one(struct machine *machine, int kind)
{
    return add_items(machine, (enum pickle_kind)kind, kind == PICKLE_DICT ? 2 : 1);
}

static int add_marked(struct machine *machine, int kind)
{
    size_t count = 0;
    int code = pop_mark(machine, &count);
    return code ? code : add_items(machine, (enum pickle_kind)kind, count);
}

/* Classes and functions, and what would come of them. */

static int take_line(struct machine *machine, const char **text, size_t *length)
{
    const unsigned char *end = memchr(machine->at, '\n', left(machine));
    if (!end)
        return fail(machine, "the pickle ends here");
    *text = (const char *)machine->at;
    *length = (size_t)(end - machine->at);
    machine->at = end + 1;
    return 0;
}

static int global(struct machine *machine, int unused)
{
    (void)unused;
    const char *module = NULL, *name = NULL;
    size_t module_length = 0, name_length = 0;
    int code = take_line(machine, &module, &module_length);
    if (!code)
        code = take_line(machine, &name, &name_length);
    return code ? code : push_global(machine, module, module_length, name, name_length);
}

static int stack_global(struct machine *machine, int unused)
{
    (void)unused;
    struct pickle_node *module = NULL, *name = NULL;
    int code = pop(machine, &name);
    if (!code)
        code = pop(machine, &module);
    if (code)
        return code;
    if (module->kind != PICKLE_STRING || name->kind != PICKLE_STRING)
        return fail(machine, "a name is no string");
    return push_global(machine, module->text, module->length, name->text, name->length);
}

static bool makes_dictionary(const struct pickle_node *callable,
                             const struct pickle_node *arguments)
{
    size_t count;
    pickle_sequence(arguments, &count);
    return (pickle_is_global(callable, "collections", "OrderedDict") && count == 0) ||
           (pickle_is_global(callable, "collections", "defaultdict") && count <= 1);
}

/* REDUCE, NEWOBJ and NEWOBJ_EX: a callable, `argument` nodes of arguments. */
static int object(struct machine *machine, int argument)
{
    struct pickle_node *callable = NULL, *arguments = NULL, *keywords = NULL, *node = NULL;
    int code = argument == 2 ? pop(machine, &keywords) : 0;
    if (!code)
        code = pop(machine, &arguments);
    if (!code)
        code = pop(machine, &callable);
    if (code)
        return code;
    if (arguments->kind != PICKLE_TUPLE)
        return fail(machine, "the arguments are no tuple");
    if (makes_dictionary(callable, arguments))
        return push_kind(machine, PICKLE_DICT);
    code = new_node(machine, PICKLE_OBJECT, &node);
    if (!code)
        code = deepen(machine, node, arguments);
    if (!code)
        code = deepen(machine, node, callable);
    if (code)
        return code;
    node->callable = callable;
    node->arguments = arguments;
    return push(machine, node);
}

/* BUILD: attributes of an object are kept, those of a dictionary are not. */
static int build(struct machine *machine, int unused)
{
    (void)unused;
    struct pickle_node *state = NULL, *node = NULL;
    int code = pop(machine, &state);
    if (!code)
        code = top(machine, &node);
    if (code || node->kind != PICKLE_OBJECT)
        return code;
    node->state = state;
    return deepen(machine, node, state);
}

static int persistent(struct machine *machine, int unused)
{
    (void)unused;
    struct pickle_node *arguments = NULL, *node = NULL;
    int code = pop(machine, &arguments);
    if (!code)
        code = new_node(machine, PICKLE_PERSISTENT, &node);
    if (!code)
        code = deepen(machine, node, arguments);
    if (code)
        return code;
    node->arguments = arguments;
    return push(machine, node);
}

/* The memo and the stack itself. */

static int memorize(struct machine *machine, uint64_t index)
{
    struct pickle_node *node = NULL;
    int code = top(machine, &node);
    if (code)
        return code;
    /* Each index takes a byte or more to set; Python's own are consecutive. */
    if (index >= (uint64_t)(machine->end - machine->start))
        return fail(machine, "its memo index exceeds the pickle's length");
    code = grow(machine, &machine->memo, &machine->memo_capacity, (size_t)index + 1);
    if (code)
        return code;
    machine->memo_count += !machine->memo[index];
    machine->memo[index] = node;
    return 0;
}

static int put(struct machine *machine, int size)
{
    uint64_t index = machine->memo_count;
    int code = size ? take_number(machine, (size_t)size, &index) : 0;
    return code ? code : memorize(machine, index);
}

static int get(struct machine *machine, int size)
{
    uint64_t index = 0;
    int code = take_number(machine, (size_t)size, &index);
    if (code)
        return code;
    if (index >= machine->memo_capacity || !machine->memo[index])
        return fail(machine, "its memo index was never set");
    return push(machine, machine->memo[index]);
}

static int mark(struct machine *machine, int unused)
{
    (void)unused;
    if (machine->mark_count == PICKLE_NESTING_MAX)
        return fail(machine, "it nests deeper than 1000");
    machine->marks[machine->mark_count++] = machine->stack_count;
    return 0;
}

static int discard_marked(struct machine *machine, int unused)
{
    (void)unused;
    size_t count = 0;
    int code = pop_mark(machine, &count);
    if (!code)
        machine->stack_count -= count;
    return code;
}

static int discard(struct machine *machine, int unused)
{
    struct pickle_node *node = NULL;
    if (!available(machine) && machine->mark_count)
        return discard_marked(machine, unused);
    return pop(machine, &node);
}

static int duplicate(struct machine *machine, int unused)
{
    (void)unused;
    struct pickle_node *node = NULL;
    int code = top(machine, &node);
    return code ? code : push(machine, node);
}

static int protocol(struct machine *machine, int size)
{
    uint64_t version = 0;
    int code = take_number(machine, (size_t)size, &version);
    if (!code && version > PROTOCOL_MAX)
        code = fail(machine, "its protocol is higher than 5");
    return code;
}

static int frame(struct machine *machine, int size)
{
    uint64_t length = 0;
    return take_number(machine, (size_t)size, &length);
}

static int stop(struct machine *machine, int unused)
{
    (void)unused;
    return pop(machine, &machine->pickle->root);
}

static const struct opcode opcodes[256] = {
    ['('] = {"MARK", mark, 0},
    [')'] = {"EMPTY_TUPLE", tuple_of, 0},
    ['.'] = {"STOP", stop, 0},
    ['0'] = {"POP", discard, 0},
    ['1'] = {"POP_MARK", discard_marked, 0},
    ['2'] = {"DUP", duplicate, 0},
    ['B'] = {"BINBYTES", push_bytes, 4},
    ['C'] = {"SHORT_BINBYTES", push_bytes, 1},
    ['F'] = {"FLOAT", NULL, 0},
    ['G'] = {"BINFLOAT", push_float, 8},
    ['I'] = {"INT", NULL, 0},
    ['J'] = {"BININT", push_signed, 4},
    ['K'] = {"BININT1", push_unsigned, 1},
    ['L'] = {"LONG", NULL, 0},
    ['M'] = {"BININT2", push_unsigned, 2},
    ['N'] = {"NONE", push_kind, PICKLE_NONE},
    ['P'] = {"PERSID", NULL, 0},
    ['Q'] = {"BINPERSID", persistent, 0},
    ['R'] = {"REDUCE", object, 1},
    ['S'] = {"STRING", NULL, 0},
    ['T'] = {"BINSTRING", push_string, 4},
    ['U'] = {"SHORT_BINSTRING", push_string, 1},
    ['V'] = {"UNICODE", NULL, 0},
    ['X'] = {"BINUNICODE", push_string, 4},
    [']'] = {"EMPTY_LIST", push_kind, PICKLE_LIST},
    ['a'] = {"APPEND", add_one, PICKLE_LIST},
    ['b'] = {"BUILD", build, 0},
    ['c'] = {"GLOBAL", global, 0},
    ['d'] = {"DICT", collect, PICKLE_DICT},
    ['e'] = {"APPENDS", add_marked, PICKLE_LIST},
    ['g'] = {"GET", NULL, 0},
    ['h'] = {"BINGET", get, 1},
    ['i'] = {"INST", NULL, 0},
    ['j'] = {"LONG_BINGET", get, 4},
    ['l'] = {"LIST", collect, PICKLE_LIST},
    ['o'] = {"OBJ", NULL, 0},
    ['p'] = {"PUT", NULL, 0},
    ['q'] = {"BINPUT", put, 1},
    ['r'] = {"LONG_BINPUT", put, 4},
    ['s'] = {"SETITEM", add_one, PICKLE_DICT},
    ['t'] = {"TUPLE", collect, PICKLE_TUPLE},
    ['u'] = {"SETITEMS", add_marked, PICKLE_DICT},
    ['}'] = {"EMPTY_DICT", push_kind, PICKLE_DICT},
    [0x80] = {"PROTO", protocol, 1},
    [0x81] = {"NEWOBJ", object, 1},
    [0x82] = {"EXT1", NULL, 0},
    [0x83] = {"EXT2", NULL, 0},
    [0x84] = {"EXT4", NULL, 0},
    [0x85] = {"TUPLE1", tuple_of, 1},
    [0x86] = {"TUPLE2", tuple_of, 2},
    [0x87] = {"TUPLE3", tuple_of, 3},
    [0x88] = {"NEWTRUE", push_bool, 1},
    [0x89] = {"NEWFALSE", push_bool, 0},
    [0x8a] = {"LONG1", push_long, 1},
    [0x8b] = {"LONG4", push_long, 4},
    [0x8c] = {"SHORT_BINUNICODE", push_string, 1},
    [0x8d] = {"BINUNICODE8", push_string, 8},
    [0x8e] = {"BINBYTES8", push_bytes, 8},
    [0x8f] = {"EMPTY_SET", push_kind, PICKLE_SET},
    [0x90] = {"ADDITEMS", add_marked, PICKLE_SET},
    [0x91] = {"FROZENSET", collect, PICKLE_SET},
    [0x92] = {"NEWOBJ_EX", object, 2},
    [0x93] = {"STACK_GLOBAL", stack_global, 0},
    [0x94] = {"MEMOIZE", put, 0},
    [0x95] = {"FRAME", frame, 8},
    [0x96] = {"BYTEARRAY8", push_bytes, 8},
    [0x97] = {"NEXT_BUFFER", NULL, 0},
    [0x98] = {"READONLY_BUFFER", NULL, 0},
};

static int step(struct machine *machine)
{
    machine->opcode = machine->at++;
    const struct opcode *opcode = &opcodes[*machine->opcode];
    size_t place = (size_t)(machine->opcode - machine->start);
    if (!opcode->name)
        return ivon_error_set(machine->error, IVON_ERROR_DATA,
                              "%s: damaged pickle: byte %zu: there is no opcode 0x%02x",
                              machine->name, place, (unsigned)*machine->opcode);
    if (!opcode->run)
        return ivon_error_set(machine->error, IVON_ERROR_DATA,
                              "%s: byte %zu of its pickle: opcode %s (0x%02x) is not read here",
                              machine->name, place, opcode->name, (unsigned)*machine->opcode);
    return opcode->run(machine, opcode->argument);
}

int pickle_parse(struct pickle **out, const char *name, const unsigned char *data, size_t size,
                 struct ivon_error *error)
{
    struct machine *machine = calloc(1, sizeof *machine);
    struct pickle *pickle = calloc(1, sizeof *pickle);
    int code = machine && pickle ? 0 : ivon_error_memory(error);
    if (!code) {
        *machine = (struct machine){.pickle = pickle, .name = name, .start = data, .at = data,
                                    .end = data + size, .error = error};
        while (!code && !pickle->root && left(machine))
            code = step(machine);
        if (!code && !pickle->root)
            code = ivon_error_set(error, IVON_ERROR_DATA, "%s: damaged pickle: it has no end",
                                  name);
        free(machine->stack);
        free(machine->memo);
    }
    free(machine);
    if (code) {
        pickle_free(pickle);
        return code;
    }
    *out = pickle;
    return 0;
}

void pickle_free(struct pickle *pickle)
{
    if (!pickle)
        return;
    for (struct block *block = pickle->blocks, *next; block; block = next) {
        next = block->next;
        for (size_t i = 0; i < block->used; i++)
            if (block->nodes[i].kind >= PICKLE_LIST && block->nodes[i].kind <= PICKLE_DICT)
                free(block->nodes[i].items);
        free(block);
    }
    free(pickle);
}

struct pickle_node *pickle_root(const struct pickle *pickle)
{
    return pickle->root;
}
