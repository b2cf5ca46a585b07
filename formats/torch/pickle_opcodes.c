/* The effect of each opcode (Python's pickletools describes them). */
#include <string.h>

#include "formats/torch/pickle_machine.h"

enum { PROTOCOL_MAX = 5 };

/* Plain values. */

static int push_kind(struct machine *machine, int kind)
{
    struct pickle_node *node = NULL;
    int code = machine_new_node(machine, (enum pickle_kind)kind, &node);
    return code ? code : machine_push(machine, node);
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
    int code = machine_read_number(machine, (size_t)size, &number);
    return code ? code : push_integer(machine, PICKLE_INTEGER, (int64_t)number);
}

static int push_signed(struct machine *machine, int size)
{
    uint64_t number = 0;
    int code = machine_read_number(machine, (size_t)size, &number);
    return code ? code : push_integer(machine, PICKLE_INTEGER, (int32_t)(uint32_t)number);
}

static int push_global(struct machine *machine, const char *module, size_t module_length,
                       const char *name, size_t name_length)
{
    if (module_length > PICKLE_NAME_MAX || name_length > PICKLE_NAME_MAX)
        return machine_fail(machine, "its name exceeds 1024 bytes");
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
    int code = machine_read_run(machine, (size_t)size, &bytes, &length);
    if (code)
        return code;
    if (length > 8) {
        struct pickle_node *class = NULL;
        code = push_global(machine, "builtins", 8, "int", 3);
        if (!code)
            code = machine_pop(machine, &class);
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
    int code = machine_read_number(machine, (size_t)size, &bits);
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
    int code = machine_read_run(machine, (size_t)size, &text, &length);
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
    if (machine_available(machine) < (size_t)count)
        return machine_fail(machine, "the stack is empty");
    int code = machine_new_node(machine, PICKLE_TUPLE, &tuple);
    if (!code)
        code = machine_append_items(machine, tuple, (size_t)count);
    return code ? code : machine_push(machine, tuple);
}

static int collect(struct machine *machine, int kind)
{
    struct pickle_node *node = NULL;
    size_t count = 0;
    int code = machine_pop_mark(machine, &count);
    if (!code && kind == PICKLE_DICT && count % 2)
        code = machine_fail(machine, "a key has no value");
    if (!code)
        code = machine_new_node(machine, (enum pickle_kind)kind, &node);
    if (!code)
        code = machine_append_items(machine, node, count);
    return code ? code : machine_push(machine, node);
}

/* Adds nodes to the container below them. An object does not keep what is added to it. */
static int add_items(struct machine *machine, enum pickle_kind kind, size_t count)
{
    if (machine_available(machine) <= count)
        return machine_fail(machine, "the stack is empty");
    struct pickle_node *node = machine->stack[machine->stack_count - count - 1];
    if (node->kind == PICKLE_OBJECT) {
        machine->stack_count -= count;
        return 0;
    }
    if (node->kind != kind)
        return machine_fail(machine, "what it adds to is no such container");
    if (kind == PICKLE_DICT && count % 2)
        return machine_fail(machine, "a key has no value");
    return machine_append_items(machine, node, count);
}

static int add_one(struct machine *machine, int kind)
{
    return add_items(machine, (enum pickle_kind)kind, kind == PICKLE_DICT ? 2 : 1);
}

static int add_marked(struct machine *machine, int kind)
{
    size_t count = 0;
    int code = machine_pop_mark(machine, &count);
    return code ? code : add_items(machine, (enum pickle_kind)kind, count);
}

/* Classes and functions, and what would come of them. */

static int pickle_read_line(struct machine *machine, const char **text, size_t *length)
{
    const unsigned char *end = memchr(machine->at, '\n', machine_left(machine));
    if (!end)
        return machine_fail(machine, "the pickle ends here");
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
    int code = pickle_read_line(machine, &module, &module_length);
    if (!code)
        code = pickle_read_line(machine, &name, &name_length);
    return code ? code : push_global(machine, module, module_length, name, name_length);
}

static int stack_global(struct machine *machine, int unused)
{
    (void)unused;
    struct pickle_node *module = NULL, *name = NULL;
    int code = machine_pop(machine, &name);
    if (!code)
        code = machine_pop(machine, &module);
    if (code)
        return code;
    if (module->kind != PICKLE_STRING || name->kind != PICKLE_STRING)
        return machine_fail(machine, "a name is no string");
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
    int code = argument == 2 ? machine_pop(machine, &keywords) : 0;
    if (!code)
        code = machine_pop(machine, &arguments);
    if (!code)
        code = machine_pop(machine, &callable);
    if (code)
        return code;
    if (arguments->kind != PICKLE_TUPLE)
        return machine_fail(machine, "the arguments are no tuple");
    if (makes_dictionary(callable, arguments))
        return push_kind(machine, PICKLE_DICT);
    code = machine_new_node(machine, PICKLE_OBJECT, &node);
    if (!code)
        code = machine_deepen(machine, node, arguments);
    if (!code)
        code = machine_deepen(machine, node, callable);
    if (code)
        return code;
    node->callable = callable;
    node->arguments = arguments;
    return machine_push(machine, node);
}

/* BUILD: attributes of an object are kept, those of a dictionary are not. */
static int pickle_opcodes_build(struct machine *machine, int unused)
{
    (void)unused;
    struct pickle_node *state = NULL, *node = NULL;
    int code = machine_pop(machine, &state);
    if (!code)
        code = machine_top(machine, &node);
    if (code || node->kind != PICKLE_OBJECT)
        return code;
    node->state = state;
    return machine_deepen(machine, node, state);
}

static int persistent(struct machine *machine, int unused)
{
    (void)unused;
    struct pickle_node *arguments = NULL, *node = NULL;
    int code = machine_pop(machine, &arguments);
    if (!code)
        code = machine_new_node(machine, PICKLE_PERSISTENT, &node);
    if (!code)
        code = machine_deepen(machine, node, arguments);
    if (code)
        return code;
    node->arguments = arguments;
    return machine_push(machine, node);
}

/* The memo and the stack itself. */

static int memorize(struct machine *machine, uint64_t index)
{
    struct pickle_node *node = NULL;
    int code = machine_top(machine, &node);
    if (code)
        return code;
    /* Each index takes a byte or more to set; Python's own are consecutive. */
    if (index >= (uint64_t)(machine->end - machine->start))
        return machine_fail(machine, "its memo index exceeds the pickle's length");
    code = machine_grow(machine, &machine->memo, &machine->memo_capacity, (size_t)index + 1);
    if (code)
        return code;
    machine->memo_count += !machine->memo[index];
    machine->memo[index] = node;
    return 0;
}

static int pickle_opcodes_put(struct machine *machine, int size)
{
    uint64_t index = machine->memo_count;
    int code = size ? machine_read_number(machine, (size_t)size, &index) : 0;
    return code ? code : memorize(machine, index);
}

static int pickle_opcodes_get(struct machine *machine, int size)
{
    uint64_t index = 0;
    int code = machine_read_number(machine, (size_t)size, &index);
    if (code)
        return code;
    if (index >= machine->memo_capacity || !machine->memo[index])
        return machine_fail(machine, "its memo index was never set");
    return machine_push(machine, machine->memo[index]);
}

static int mark(struct machine *machine, int unused)
{
    (void)unused;
    if (machine->mark_count == PICKLE_NESTING_MAX)
        return machine_fail(machine, "it nests deeper than 1000");
    machine->marks[machine->mark_count++] = machine->stack_count;
    return 0;
}

static int discard_marked(struct machine *machine, int unused)
{
    (void)unused;
    size_t count = 0;
    int code = machine_pop_mark(machine, &count);
    if (!code)
        machine->stack_count -= count;
    return code;
}

static int discard(struct machine *machine, int unused)
{
    struct pickle_node *node = NULL;
    if (!machine_available(machine) && machine->mark_count)
        return discard_marked(machine, unused);
    return machine_pop(machine, &node);
}

static int duplicate(struct machine *machine, int unused)
{
    (void)unused;
    struct pickle_node *node = NULL;
    int code = machine_top(machine, &node);
    return code ? code : machine_push(machine, node);
}

static int protocol(struct machine *machine, int size)
{
    uint64_t version = 0;
    int code = machine_read_number(machine, (size_t)size, &version);
    if (!code && version > PROTOCOL_MAX)
        code = machine_fail(machine, "its protocol is higher than 5");
    return code;
}

static int frame(struct machine *machine, int size)
{
    uint64_t length = 0;
    return machine_read_number(machine, (size_t)size, &length);
}

static int stop(struct machine *machine, int unused)
{
    (void)unused;
    return machine_pop(machine, &machine->pickle->root);
}

const struct opcode pickle_opcodes[256] = {
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
    ['b'] = {"BUILD", pickle_opcodes_build, 0},
    ['c'] = {"GLOBAL", global, 0},
    ['d'] = {"DICT", collect, PICKLE_DICT},
    ['e'] = {"APPENDS", add_marked, PICKLE_LIST},
    ['g'] = {"GET", NULL, 0},
    ['h'] = {"BINGET", pickle_opcodes_get, 1},
    ['i'] = {"INST", NULL, 0},
    ['j'] = {"LONG_BINGET", pickle_opcodes_get, 4},
    ['l'] = {"LIST", collect, PICKLE_LIST},
    ['o'] = {"OBJ", NULL, 0},
    ['p'] = {"PUT", NULL, 0},
    ['q'] = {"BINPUT", pickle_opcodes_put, 1},
    ['r'] = {"LONG_BINPUT", pickle_opcodes_put, 4},
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
    [0x94] = {"MEMOIZE", pickle_opcodes_put, 0},
    [0x95] = {"FRAME", frame, 8},
    [0x96] = {"BYTEARRAY8", push_bytes, 8},
    [0x97] = {"NEXT_BUFFER", NULL, 0},
    [0x98] = {"READONLY_BUFFER", NULL, 0},
};
