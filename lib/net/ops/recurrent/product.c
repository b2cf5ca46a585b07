/*
 * The products of one step. They have few rows, a batch's, and always the same matrix: it is put
 * into panels once, which BLAS would do at every step. Panel j of a gate holds columns 64 j to
 * 64 j + 63 of the product, one row for each of its terms.
 */
#include <string.h>

#include "core/dispatch.h"
#include "net/ops/recurrent/recurrent.h"

/* Puts one gate's part of R into panels; the terms are its columns. */
static void pack_gate(const struct recurrent *layer, const float *r, float *panels)
{
    size_t hidden = (size_t)layer->hidden;
    for (size_t first = 0; first < hidden; first += PANEL_WIDTH, panels += hidden * PANEL_WIDTH) {
        size_t count = hidden - first < PANEL_WIDTH ? hidden - first : PANEL_WIDTH;
        for (size_t q = 0; q < hidden; q++) {
            for (size_t i = 0; i < count; i++)
                panels[q * PANEL_WIDTH + i] = r[(first + i) * hidden + q];
            for (size_t i = count; i < PANEL_WIDTH; i++)
                panels[q * PANEL_WIDTH + i] = 0;
        }
    }
}

/* Puts R into panels; the terms are the rows of all gates. */
static void pack_adjoint(const struct recurrent *layer, const float *r, float *panels)
{
    size_t hidden = (size_t)layer->hidden, terms = (size_t)recurrent_width(layer);
    for (size_t first = 0; first < hidden; first += PANEL_WIDTH, panels += terms * PANEL_WIDTH) {
        size_t count = hidden - first < PANEL_WIDTH ? hidden - first : PANEL_WIDTH;
        for (size_t q = 0; q < terms; q++) {
            memcpy(panels + q * PANEL_WIDTH, r + q * hidden + first, count * sizeof *panels);
            memset(panels + q * PANEL_WIDTH + count, 0, (PANEL_WIDTH - count) * sizeof *panels);
        }
    }
}

void recurrent_pack(const struct recurrent_pass *pass, bool adjoint)
{
    const struct recurrent *layer = pass->layer;
    size_t hidden = (size_t)layer->hidden, gate = hidden * (size_t)recurrent_padded(layer);
    for (size_t i = 0; i < (size_t)recurrent_width(layer); i++)
        pass->offsets[i] = i * PANEL_WIDTH;
    if (adjoint)
        pack_adjoint(layer, pass->r, pass->adjoint_panels);
    for (size_t i = 0; i < layer->cell->gates && !adjoint; i++)
        pack_gate(layer, pass->r + i * hidden * hidden, pass->panels + i * gate);
}

IVON_DISPATCH static void recurrent_add_both(float *restrict to, const float *restrict from,
                                             const float *restrict bias, size_t count)
{
    for (size_t i = 0; i < count; i++)
        to[i] += from[i] + bias[i];
}

IVON_DISPATCH static void recurrent_add(float *restrict to, const float *restrict from,
                                        size_t count)
{
    for (size_t i = 0; i < count; i++)
        to[i] += from[i];
}

/* Computes one gate's product, or the adjoint, into the scratch at `out`. */
static void run_panels(const struct recurrent_pass *pass, const float *rows, size_t stride,
                       size_t terms, const float *panels, size_t panel_size, float *out,
                       size_t out_stride)
{
    size_t hidden = (size_t)pass->layer->hidden;
    const struct net_panel panel = {
        .weights = rows, .stride = stride, .terms = terms, .offsets = pass->offsets};
    for (size_t first = 0; first < hidden; first += PANEL_WIDTH, panels += panel_size) {
        size_t count = hidden - first < PANEL_WIDTH ? hidden - first : PANEL_WIDTH;
        count = (count + PANEL_STEP - 1) / PANEL_STEP * PANEL_STEP;
        net_panel_run(&panel, panels, (size_t)pass->layer->batch, count, out + first, out_stride);
    }
}

void recurrent_product(const struct recurrent_pass *pass, const float *a, const float *bias,
                       size_t first, size_t count, float *out, size_t stride)
{
    const struct recurrent *layer = pass->layer;
    size_t hidden = (size_t)layer->hidden, padded = (size_t)recurrent_padded(layer);
    for (size_t i = 0; i < count; i++)
        run_panels(pass, a, hidden, hidden, pass->panels + (first + i) * hidden * padded,
                   hidden * PANEL_WIDTH, pass->step + i * padded, count * padded);
    for (size_t b = 0; b < (size_t)layer->batch; b++)
        for (size_t i = 0; i < count; i++) {
            const float *from = pass->step + (b * count + i) * padded;
            if (bias)
                recurrent_add_both(out + b * stride + i * hidden, from, bias + i * hidden, hidden);
            else
                recurrent_add(out + b * stride + i * hidden, from, hidden);
        }
}

void recurrent_product_adjoint(const struct recurrent_pass *pass, const float *d, size_t stride,
                               size_t first, size_t count, float *a)
{
    const struct recurrent *layer = pass->layer;
    size_t hidden = (size_t)layer->hidden, padded = (size_t)recurrent_padded(layer);
    run_panels(pass, d, stride, count * hidden, pass->adjoint_panels + first * hidden * PANEL_WIDTH,
               (size_t)recurrent_width(layer) * PANEL_WIDTH, pass->step, padded);
    for (size_t b = 0; b < (size_t)layer->batch; b++)
        recurrent_add(a + b * hidden, pass->step + b * padded, hidden);
}
