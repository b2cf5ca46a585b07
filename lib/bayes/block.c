#include "bayes/block.h"

#include <stdlib.h>

#include "bayes/posterior.h"
#include "bayes/transfer.h"
#include "core/error.h"
#include "core/memory.h"

/* The elements of a basis where they lie in memory as floats; else null. */
static const float *block_view_basis(struct ivon_source *source, ptrdiff_t index)
{
    const struct ivon_tensor *tensor = ivon_source_tensor(source, (size_t)index);
    return tensor->dtype == IVON_F32 ? ivon_source_view(source, (size_t)index, 0) : NULL;
}

/* Points *basis to a tensor's elements, in place or in *memory. */
static int block_load_basis(struct ivon_source *source, ptrdiff_t index, const float **basis,
                            float **memory, struct ivon_error *error)
{
    *basis = NULL;
    if (index < 0)
        return 0;
    const struct ivon_tensor *tensor = ivon_source_tensor(source, (size_t)index);
    *basis = block_view_basis(source, index);
    if (*basis)
        return 0;
    *memory = memory_aligned(tensor->count * sizeof **memory);
    *basis = *memory;
    return *memory ? transfer_floats(source, (size_t)index, 0, tensor->count, *memory, error)
                   : ivon_error_memory(error);
}

int block_load(struct block *block, struct ivon_source *source, const struct structure_block *from,
               double scale, struct ivon_error *error)
{
    size_t size = from->rows * from->columns;
    block->net = (struct net_block){
        .rows = from->rows, .columns = from->columns, .transposed = from->transposed};
    block->diagonal = memory_aligned(size * sizeof *block->diagonal);
    int code = block->diagonal ? 0 : ivon_error_memory(error);
    block->net.diagonal = block->diagonal;
    if (!code)
        code = block_load_basis(source, from->input_basis, &block->net.input_basis,
                                &block->input_basis, error);
    if (!code)
        code = block_load_basis(source, from->output_basis, &block->net.output_basis,
                                &block->output_basis, error);
    if (!code)
        code = posterior_inverse_precision(source, (size_t)from->hessian, scale, 0, size,
                                           block->diagonal, error);
    return code;
}

size_t block_memory(struct ivon_source *source, const struct structure_block *from)
{
    const ptrdiff_t bases[] = {from->input_basis, from->output_basis};
    size_t count = from->rows * from->columns;
    for (size_t i = 0; i < sizeof bases / sizeof bases[0]; i++)
        if (bases[i] >= 0 && !block_view_basis(source, bases[i]))
            count += ivon_source_tensor(source, (size_t)bases[i])->count;
    return count * sizeof(float);
}

void block_release(struct block *block)
{
    free(block->input_basis);
    free(block->output_basis);
    free(block->diagonal);
    *block = (struct block){0};
}
