/*
 * f = W₂ᵀ tanh(W₁ x + b₁) + b₂, so small that Σ fits on a page, with a posterior that has
 * everything: W₁ and b₁ are a block with both bases, W₂, stored with a row for each input, one with
 * a basis of outputs alone, b₂ is diagonal, and a low-rank correction lies upon all. f and its
 * derivatives are written out in double.
 */
#ifndef TESTS_UNIT_STRUCTURED_NETWORK_H
#define TESTS_UNIT_STRUCTURED_NETWORK_H

#include "dense_covariance.h"

enum {
    IN = 4,
    HIDDEN = 5,
    OUT = 3,
    RANK = 4,
    RANDOM = HIDDEN * (IN + 1) + HIDDEN * OUT + OUT, /* parameters */
};

struct structured {
    struct model model;
    float *w1, *b1, *w2, *b2;
};

/* The correction's values: one takes from the base's variance what the others add. */
static const double VALUES[RANK] = {9.5, -0.5, 0.4, 0.125};

static inline float *structured_tensor(struct model *model, enum ivon_part part, const char *name,
                                       size_t rows, size_t columns)
{
    const int64_t shape[] = {(int64_t)rows, (int64_t)columns};
    return model_tensor(model, name, part, columns ? 2 : 1, shape, -1, 1);
}

/* Makes `count` vectors of a given length orthonormal, twice; element i of vector k lies at
   data[k * stride + i * step]. */
static inline void orthonormalise(float *data, size_t count, size_t length, size_t stride,
                                  size_t step)
{
    for (size_t k = 0; k < count; k++)
        for (int pass = 0; pass < 2; pass++) {
            double squares = 0;
            for (size_t l = 0; l < k; l++) {
                double along = 0;
                for (size_t i = 0; i < length; i++)
                    along += (double)data[k * stride + i * step] *
                             (double)data[l * stride + i * step];
                for (size_t i = 0; i < length; i++)
                    data[k * stride + i * step] -= (float)(along *
                                                           (double)data[l * stride + i * step]);
            }
            for (size_t i = 0; i < length; i++)
                squares += pow((double)data[k * stride + i * step], 2);
            for (size_t i = 0; i < length; i++)
                data[k * stride + i * step] /= (float)sqrt(squares);
        }
}

static inline void structured_basis(struct model *model, enum ivon_part part, const char *name,
                                    size_t n)
{
    orthonormalise(structured_tensor(model, part, name, n, n), n, n, 1, n);
}

static inline void structured_add_vectors(struct model *model)
{
    static const char *const names[] = {"w1", "w2", "b2"};
    static const size_t counts[] = {HIDDEN * (IN + 1), HIDDEN * OUT, OUT};
    float all[RANK * RANDOM];
    for (size_t i = 0; i < RANK * RANDOM; i++)
        all[i] = model_random(model, -1, 1);
    orthonormalise(all, RANK, RANDOM, RANDOM, 1);
    for (size_t t = 0, at = 0; t < 3; at += counts[t++]) {
        float *vectors = structured_tensor(model, IVON_LOW_RANK, names[t], RANK, counts[t]);
        for (size_t k = 0; k < RANK; k++)
            memcpy(vectors + k * counts[t], all + k * RANDOM + at, counts[t] * sizeof *vectors);
    }
}

static inline void structured_add_text(struct model *model, size_t rank)
{
    const struct structure_block_names names[] = {{.weight = "w1", .bias = "b1"},
                                                  {.weight = "w2", .transposed = true}};
    struct ivon_tensor *tensor = &model->tensors[model->count];
    char *text = structure_text(&(struct structure_description){
        .blocks = names, .block_count = 2, .values = rank ? VALUES : NULL, .rank = rank});
    assert_non_null(text);
    *tensor = (struct ivon_tensor){.name = "structure.json",
                                   .part = IVON_STRUCTURE,
                                   .dtype = IVON_U8,
                                   .rank = 1,
                                   .shape = {(int64_t)strlen(text)},
                                   .count = strlen(text),
                                   .ess = NAN,
                                   .weight_decay = NAN};
    model->data[model->count++] = text;
}

static inline void structured_add_network(struct model *model)
{
    model_int(model, "transB", 1);
    model_node(model, "Gemm", "z", "x", "w1", "b1");
    model_node(model, "Tanh", "a", "z");
    model_node(model, "MatMul", "g", "a", "w2");
    model_node(model, "Add", "y", "g", "b2");
    model_output(model, "y");
}

/* With a correction, or without. The network is not finished. */
static inline void structured_fill(struct structured *structured, bool low_rank)
{
    struct model *m = &structured->model;
    model_begin(m);
    model_input(m, "x", NET_FLOAT, 2, (const int64_t[]){-1, IN});
    structured->w1 = model_parameter(m, "w1", SHAPE(HIDDEN, IN), -1, 1);
    structured->b1 = model_parameter(m, "b1", SHAPE(HIDDEN), -1, 1);
    structured->w2 = model_parameter(m, "w2", SHAPE(HIDDEN, OUT), -1, 1);
    structured->b2 = model_parameter(m, "b2", SHAPE(OUT), -1, 1);
    model_hessian(m, "w1", SHAPE(HIDDEN, IN + 1), 0, 2);
    model_hessian(m, "w2", SHAPE(OUT, HIDDEN), 0, 2);
    structured_basis(m, IVON_BASIS_INPUT, "w1", IN + 1);
    structured_basis(m, IVON_BASIS_OUTPUT, "w1", HIDDEN);
    structured_basis(m, IVON_BASIS_OUTPUT, "w2", OUT);
    model_hessian(m, "b2", SHAPE(OUT), 0, 2);
    if (low_rank)
        structured_add_vectors(m);
    structured_add_text(m, low_rank ? RANK : 0);
    structured_add_network(m);
}

static inline void structured_begin(struct structured *structured, bool low_rank)
{
    structured_fill(structured, low_rank);
    model_bind(&structured->model);
}

static inline void structured_end(struct structured *structured)
{
    model_end(&structured->model);
}

/* f of one example, and its derivatives by all means, in the order of w1, b1, w2, b2. */
static inline void structured_run(const struct structured *s, const float *x, double *f,
                                  double jacobian[OUT][RANDOM])
{
    enum { B1 = HIDDEN * IN, W2 = B1 + HIDDEN, B2 = W2 + HIDDEN * OUT };
    double a[HIDDEN];
    for (size_t j = 0; j < HIDDEN; j++) {
        a[j] = (double)s->b1[j];
        for (size_t d = 0; d < IN; d++)
            a[j] += (double)s->w1[j * IN + d] * (double)x[d];
        a[j] = tanh(a[j]);
    }
    for (size_t c = 0; c < OUT; c++) {
        memset(jacobian[c], 0, RANDOM * sizeof(double));
        f[c] = (double)s->b2[c];
        jacobian[c][B2 + c] = 1;
        for (size_t j = 0; j < HIDDEN; j++) {
            double weight = (double)s->w2[j * OUT + c], slope = weight * (1 - a[j] * a[j]);
            f[c] += weight * a[j];
            jacobian[c][W2 + j * OUT + c] = a[j];
            jacobian[c][B1 + j] = slope;
            for (size_t d = 0; d < IN; d++)
                jacobian[c][j * IN + d] = slope * (double)x[d];
        }
    }
}

/* Derivatives by the means as a vector of a dense covariance; what is not random is left out. */
static inline void structured_to_dense(const struct dense *dense, const double *by_means,
                                       double *vector)
{
    memset(vector, 0, DENSE_MOST * sizeof *vector);
    for (size_t mean = 0, at = 0; mean < 4; mean++) {
        size_t count = ivon_source_tensor(dense->source, mean)->count;
        for (size_t i = 0; i < count; i++, at++)
            if (dense_index(dense, mean, i) < DENSE_MOST)
                vector[dense_index(dense, mean, i)] = by_means[at];
    }
}

static inline bool all_but_b2(void *context, const char *name)
{
    (void)context;
    return strcmp(name, "b2") != 0;
}

static inline bool only_w2(void *context, const char *name)
{
    (void)context;
    return strcmp(name, "w2") == 0;
}

#endif
