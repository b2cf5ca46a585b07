/* Pickles: opcodes are swapped, doubled, left out, moved and made anew, and their arguments
   changed. */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/mutators/mutators.h"

enum { OPS_MAX = 1 << 14 };

/* How an opcode's argument tells its size. */
enum argument { NONE, FIXED, COUNTED, LINES };

struct op {
    const uint8_t *data; /* the opcode, and its argument */
    size_t size;
    enum argument argument;
    size_t width; /* of a fixed argument, or of a count; or the number of lines */
};

static enum argument argument_of(uint8_t code, size_t *width)
{
    static const struct {
        const char *codes;
        enum argument argument;
        size_t width;
    } kinds[] = {{"KqhUC\x8c\x8a\x80\x82", FIXED, 1}, /* those that are counted come below */
                 {"M\x83", FIXED, 2},
                 {"Jrj\x84", FIXED, 4},
                 {"G\x95", FIXED, 8},
                 {"ci", LINES, 2},
                 {"FILPSVpg", LINES, 1}};
    static const struct {
        uint8_t code;
        size_t width;
    } counted[] = {{'U', 1}, {'C', 1},  {0x8c, 1}, {0x8a, 1}, {'T', 4}, {'B', 4},
                   {'X', 4}, {0x8b, 4}, {0x8d, 8}, {0x8e, 8}, {0x96, 8}};
    for (size_t i = 0; i < sizeof counted / sizeof *counted; i++)
        if (counted[i].code == code) {
            *width = counted[i].width;
            return COUNTED;
        }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strchr(kinds[i].codes, code)) {
            *width = kinds[i].width;
            return kinds[i].argument;
        }
    *width = 0;
    return NONE;
}

static uint64_t number_at(const uint8_t *at, size_t width)
{
    uint64_t number = 0;
    for (size_t i = 0; i < width; i++)
        number |= (uint64_t)at[i] << (8 * i);
    return number;
}

/* The opcode at the beginning of `left` bytes, of which an argument may be cut short. */
static struct op op_at(const uint8_t *data, size_t left)
{
    struct op op = {.data = data, .size = 1};
    op.argument = *data ? argument_of(*data, &op.width) : NONE;
    if (op.argument == FIXED)
        op.size += op.width;
    if (op.argument == COUNTED && left - 1 >= op.width) {
        uint64_t count = number_at(data + 1, op.width);
        op.size += op.width + (count < left ? (size_t)count : left);
    }
    for (size_t lines = op.argument == LINES ? op.width : 0; lines; lines--) {
        const uint8_t *end = op.size < left ? memchr(data + op.size, '\n', left - op.size) : NULL;
        op.size = end ? (size_t)(end - data) + 1 : left;
    }
    if (op.size > left || (op.argument == COUNTED && op.size < 1 + op.width)) {
        op.size = op.size < left ? op.size : left;
        op.argument = NONE;
    }
    return op;
}

static size_t split(struct op *ops, const uint8_t *data, size_t size)
{
    size_t count = 0;
    for (; size && count < OPS_MAX - 1; count++) {
        ops[count] = op_at(data, size);
        data += ops[count].size;
        size -= ops[count].size;
    }
    if (size) /* the rest, as it is */
        ops[count++] = (struct op){.data = data, .size = size};
    return count;
}

/* The same opcode with another argument. */
static void put_changed(struct buffer *out, const struct op *op)
{
    const uint8_t *argument = op->data + 1;
    if (op->argument == FIXED) {
        put(out, op->data, 1);
        put_number(out, other_number(number_at(argument, op->width)), op->width);
    } else if (op->argument == COUNTED) {
        struct buffer text = new_buffer(2 * op->size + 32);
        put_mutated(&text, argument + op->width, op->size - 1 - op->width);
        put(out, op->data, 1);
        put_number(out, once_in(16) ? other_number(text.size) : text.size, op->width);
        put(out, text.data, text.size);
        free(text.data);
    } else if (op->argument == LINES) {
        put(out, op->data, 1);
        put_mutated(out, argument, op->size - 1);
        put(out, "\n", 1);
    } else {
        uint8_t code = (uint8_t)pick(256);
        put(out, &code, 1);
        put(out, argument, op->size - 1);
    }
}

/* Opcodes that a state dict is made of, with arguments. */
static void put_new(struct buffer *out)
{
#define TEXT(text)                                                                                 \
    {                                                                                              \
        sizeof(text) - 1, text                                                                     \
    }
    static const struct {
        size_t size;
        const char *text;
    } known[] = {TEXT("N"),
                 TEXT("\x88"),
                 TEXT("\x89"),
                 TEXT("K\x02"),
                 TEXT("K\x00"),
                 TEXT("M\x00\x01"),
                 TEXT("J\xff\xff\xff\xff"),
                 TEXT("J\xff\xff\xff\x7f"),
                 TEXT("\x8a\x08\0\0\0\0\0\0\0\x80"),
                 TEXT("\x8a\x00"),
                 TEXT("\x8a\x09\0\0\0\0\0\0\0\0\x01"),
                 TEXT("G\x3f\xf0\0\0\0\0\0\0"),
                 TEXT("G\x7f\xf0\0\0\0\0\0\0"),
                 TEXT("G\x7f\xf8\0\0\0\0\0\0"),
                 TEXT("("),
                 TEXT("t"),
                 TEXT(")"),
                 TEXT("\x85"),
                 TEXT("\x86"),
                 TEXT("\x87"),
                 TEXT("]"),
                 TEXT("}"),
                 TEXT("\x8f"),
                 TEXT("a"),
                 TEXT("e"),
                 TEXT("s"),
                 TEXT("u"),
                 TEXT("\x90"),
                 TEXT("\x91"),
                 TEXT("R"),
                 TEXT("b"),
                 TEXT("Q"),
                 TEXT("\x81"),
                 TEXT("\x92"),
                 TEXT("\x93"),
                 TEXT("o"),
                 TEXT("0"),
                 TEXT("1"),
                 TEXT("2"),
                 TEXT("q\x00"),
                 TEXT("h\x00"),
                 TEXT("h\x01"),
                 TEXT("\x94"),
                 TEXT("d"),
                 TEXT("l"),
                 TEXT("X\x03\0\0\0a.b"),
                 TEXT("\x8c\x05state"),
                 TEXT("X\x0c\0\0\0param_groups"),
                 TEXT("X\x06\0\0\0params"),
                 TEXT("X\x04\0\0\0hess"),
                 TEXT("X\x05\0\0\0numel"),
                 TEXT("X\x08\0\0\0momentum"),
                 TEXT("X\x03\0\0\0ess"),
                 TEXT("X\x0b\0\0\0param_names"),
                 TEXT("X\x0a\0\0\0exp_avg_sq"),
                 TEXT("X\x07\0\0\0exp_avg"),
                 TEXT("X\x04\0\0\0step"),
                 TEXT("X\x05\0\0\0betas"),
                 TEXT("X\x09\0\0\0optimizer"),
                 TEXT("X\x05\0\0\0model"),
                 TEXT("X\x0a\0\0\0state_dict"),
                 TEXT("X\x07\0\0\0storage"),
                 TEXT("X\x01\0\0\0000"),
                 TEXT("ctorch._utils\n_rebuild_tensor_v2\n"),
                 TEXT("ctorch._utils\n_rebuild_parameter\n"),
                 TEXT("ctorch\nFloatStorage\n"),
                 TEXT("ctorch\nHalfStorage\n"),
                 TEXT("ctorch\nfloat32\n"),
                 TEXT("ctorch.storage\nUntypedStorage\n"),
                 TEXT("ccollections\nOrderedDict\n"),
                 TEXT("ccollections\ndefaultdict\n"),
                 TEXT("cargparse\nNamespace\n"),
                 TEXT("ctypes\nSimpleNamespace\n"),
                 TEXT("c__builtin__\nset\n"),
                 TEXT("\x96\x02\0\0\0\0\0\0\0ab"),
                 TEXT("C\x02xy"),
                 TEXT("\x95\x04\0\0\0\0\0\0\0")};
#undef TEXT
    size_t i = pick(sizeof known / sizeof *known);
    put(out, known[i].text, known[i].size);
}

static void put_ops(struct buffer *out, const struct op *ops, size_t count)
{
    for (size_t i = 0; i < count; i++)
        put(out, ops[i].data, ops[i].size);
}

bool mutate_pickle(struct buffer *out, const uint8_t *data, size_t size)
{
    static struct op ops[OPS_MAX];
    size_t count = split(ops, data, size);
    size_t at = pick(count), other = pick(count), more = 1 + pick(once_in(4) ? 40 : 4);
    if (!count)
        return false;
    size_t end = more < count - at ? at + more : count;
    put_ops(out, ops, at);
    switch (pick(8)) {
    case 0: /* left out */
        break;
    case 1: /* twice */
        put_ops(out, ops + at, end - at);
        put_ops(out, ops + at, end - at);
        break;
    case 2: { /* some from elsewhere, before or instead */
        size_t room = count - other;
        put_ops(out, ops + other, more < room ? more : room);
        end = once_in(2) ? at : end;
        break;
    }
    case 3: /* turned round */
        for (size_t i = end; i > at; i--)
            put_ops(out, ops + i - 1, 1);
        break;
    case 4: /* new ones */
        for (size_t i = 1 + pick(3); i--;)
            put_new(out);
        end = once_in(2) ? at : at + 1;
        break;
    default:
        put_changed(out, ops + at);
        end = at + 1;
    }
    put_ops(out, ops + end, count - end);
    return true;
}
