#include "formats/torch/pickle.h"

#include <stdlib.h>

#include "core/error.h"
#include "formats/torch/pickle_machine.h"

static int step(struct machine *machine)
{
    machine->opcode = machine->at++;
    const struct opcode *opcode = &pickle_opcodes[*machine->opcode];
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
        *machine = (struct machine){.pickle = pickle,
                                    .name = name,
                                    .start = data,
                                    .at = data,
                                    .end = data + size,
                                    .error = error};
        while (!code && !pickle->root && machine_left(machine))
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
    for (struct pickle_block *block = pickle->blocks, *next; block; block = next) {
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
