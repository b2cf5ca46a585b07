#include "net/derivative/metric.h"

#include <stdint.h>
#include <string.h>

#include "core/blas.h"
#include "net/derivative/vectors.h"
#include "net/graph/graph.h"

/* X holds rows of n numbers. A weight has i numbers for each of them, n less the bias. Stored with
   a row for each input it is i × o, and is read in squares that stay in the first-level cache. */

enum { SQUARE = 32 };

static size_t block_inputs(const struct net_block *block)
{
    return block->columns - (block->bias != NET_NONE);
}

static size_t block_end(size_t at, size_t extent)
{
    return extent - at < SQUARE ? extent : at + SQUARE;
}

/* Copies between X and a weight, which may be stored with a row for each input. */
static void block_move(const struct net_block *block, float *weight, float *x, bool gather)
{
    size_t rows = block->rows, inputs = block_inputs(block), columns = block->columns;
    for (size_t r = 0; r < rows && !block->transposed; r++)
        memcpy(gather ? x + r * columns : weight + r * inputs,
               gather ? weight + r * inputs : x + r * columns, inputs * sizeof *x);
    for (size_t r = 0; r < rows && block->transposed; r = block_end(r, rows))
        for (size_t c = 0; c < inputs; c = block_end(c, inputs))
            for (size_t i = r; i < block_end(r, rows); i++)
                for (size_t j = c; j < block_end(c, inputs); j++)
                    if (gather)
                        x[i * columns + j] = weight[j * rows + i];
                    else
                        weight[j * rows + i] = x[i * columns + j];
}

void net_block_gather(const struct net_block *block, const float *weight, const float *bias,
                      float *x)
{
    size_t inputs = block_inputs(block);
    if (weight)
        block_move(block, (float *)weight, x, true);
    for (size_t r = 0; r < block->rows && !weight; r++)
        memset(x + r * block->columns, 0, inputs * sizeof *x);
    for (size_t r = 0; r < block->rows && block->bias != NET_NONE; r++)
        x[r * block->columns + inputs] = bias ? bias[r] : 0;
}

void net_block_scatter(const struct net_block *block, const float *x, float *weight, float *bias)
{
    size_t inputs = block_inputs(block);
    if (weight)
        block_move(block, weight, (float *)x, false);
    for (size_t r = 0; r < block->rows && block->bias != NET_NONE && bias; r++)
        bias[r] = x[r * block->columns + inputs];
}

/* X ← op(U_B) X op(U_A)ᵀ, with op(U) = U for the way back and Uᵀ otherwise. */
static void block_turn(const struct net_block *block, bool back, float *x, float *scratch)
{
    int64_t rows = (int64_t)block->rows, columns = (int64_t)block->columns;
    int64_t row = columns ? columns : 1, step = rows ? rows : 1;
    size_t size = block->rows * block->columns * sizeof *x;
    if (block->input_basis)
        blas_product(false, back, rows, columns, columns, 1, x, row, block->input_basis, row, 0,
                     scratch, row);
    else if (block->output_basis)
        memcpy(scratch, x, size);
    if (block->output_basis)
        blas_product(!back, false, rows, columns, rows, 1, block->output_basis, step, scratch, row,
                     0, x, row);
    else if (block->input_basis)
        memcpy(x, scratch, size);
}

void net_block_rotate(const struct net_block *block, float *x, float *scratch)
{
    block_turn(block, false, x, scratch);
}

void net_block_rotate_back(const struct net_block *block, float *x, float *scratch)
{
    block_turn(block, true, x, scratch);
}

double net_block_multiply(const struct net_block *block, float *x, float *scratch)
{
    size_t size = block->rows * block->columns;
    net_block_rotate(block, x, scratch);
    double sum = derivative_weighted_square(block->diagonal, x, size);
    derivative_multiply(x, block->diagonal, size);
    net_block_rotate_back(block, x, scratch);
    return sum;
}
