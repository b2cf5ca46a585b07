#include "formats/torch/pickle_machine.h"

#include <stdlib.h>
#include <string.h>

#include "core/error.h"

int machine_fail(struct machine *machine, const char *why)
{
    return ivon_error_set(machine->error, IVON_ERROR_DATA, "%s: damaged pickle: byte %zu, %s: %s",
                          machine->name, (size_t)(machine->opcode - machine->start),
                          pickle_opcodes[*machine->opcode].name, why);
}

size_t machine_left(const struct machine *machine)
{
    return (size_t)(machine->end - machine->at);
}

int machine_read_number(struct machine *machine, size_t size, uint64_t *number)
{
    *number = 0;
    if (machine_left(machine) < size)
        return machine_fail(machine, "the pickle ends here");
    for (size_t i = 0; i < size; i++)
        *number |= (uint64_t)machine->at[i] << 8 * i;
    machine->at += size;
    return 0;
}

int machine_read_run(struct machine *machine, size_t size, const char **text, size_t *length)
{
    uint64_t number = 0;
    int code = machine_read_number(machine, size, &number);
    if (code)
        return code;
    if (number > PICKLE_TEXT_MAX)
        return machine_fail(machine, "its length exceeds 256 MiB");
    if (number > machine_left(machine))
        return machine_fail(machine, "its length exceeds the pickle's");
    *text = (const char *)machine->at;
    *length = (size_t)number;
    machine->at += number;
    return 0;
}

int machine_new_node(struct machine *machine, enum pickle_kind kind, struct pickle_node **node)
{
    struct pickle *pickle = machine->pickle;
    if (pickle->node_count == PICKLE_NODES_MAX)
        return machine_fail(machine, "there are more than 4194304 objects");
    if (!pickle->blocks || pickle->blocks->used == PICKLE_BLOCK) {
        struct pickle_block *block = malloc(sizeof *block);
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

int machine_grow(struct machine *machine, struct pickle_node ***items, size_t *capacity,
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

int machine_push(struct machine *machine, struct pickle_node *node)
{
    int code = machine_grow(machine, &machine->stack, &machine->stack_capacity,
                            machine->stack_count + 1);
    if (!code)
        machine->stack[machine->stack_count++] = node;
    return code;
}

size_t machine_available(const struct machine *machine)
{
    size_t floor = machine->mark_count ? machine->marks[machine->mark_count - 1] : 0;
    return machine->stack_count - floor;
}

int machine_pop(struct machine *machine, struct pickle_node **node)
{
    if (!machine_available(machine))
        return machine_fail(machine, "the stack is empty");
    *node = machine->stack[--machine->stack_count];
    return 0;
}

int machine_top(struct machine *machine, struct pickle_node **node)
{
    int code = machine_pop(machine, node);
    machine->stack_count += !code;
    return code;
}

int machine_pop_mark(struct machine *machine, size_t *count)
{
    if (!machine->mark_count)
        return machine_fail(machine, "there is no mark");
    *count = machine_available(machine);
    machine->mark_count--;
    return 0;
}

int machine_deepen(struct machine *machine, struct pickle_node *node,
                   const struct pickle_node *inner)
{
    if (inner->depth >= node->depth)
        node->depth = inner->depth + 1;
    if (node->depth > PICKLE_NESTING_MAX)
        return machine_fail(machine, "it nests deeper than 1000");
    return 0;
}

int machine_append_items(struct machine *machine, struct pickle_node *node, size_t count)
{
    if (!count) /* of a stack that may not be there */
        return 0;
    struct pickle_node **from = machine->stack + machine->stack_count - count;
    int code = machine_grow(machine, &node->items, &node->capacity, node->count + count);
    for (size_t i = 0; i < count && !code; i++) {
        node->items[node->count++] = from[i];
        code = machine_deepen(machine, node, from[i]);
    }
    machine->stack_count -= count;
    return code;
}
