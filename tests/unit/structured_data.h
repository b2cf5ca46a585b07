/* Examples for structured_network.h, of every likelihood, with a dense GGN. */
#ifndef TESTS_UNIT_STRUCTURED_DATA_H
#define TESTS_UNIT_STRUCTURED_DATA_H

#include "ivon/task.h"
#include "structured_network.h"
#include "table_examples.h"

enum { EXAMPLES = 23 };

static const double NOISE = 0.5;

struct structured_data {
    enum ivon_likelihood likelihood;
    float x[EXAMPLES * IN], numbers[EXAMPLES * OUT];
    int64_t labels[EXAMPLES * OUT];
    struct table table;
    struct ivon_examples *examples;
};

static inline void data_begin(struct structured_data *data, struct model *model,
                              enum ivon_likelihood likelihood)
{
    bool classes = likelihood == IVON_CATEGORICAL;
    bool regression = likelihood == IVON_GAUSSIAN || likelihood == IVON_POISSON;
    *data = (struct structured_data){.likelihood = likelihood};
    for (size_t i = 0; i < EXAMPLES * IN; i++)
        data->x[i] = model_random(model, -1, 1);
    for (size_t i = 0; i < EXAMPLES * OUT; i++) {
        data->labels[i] = (int64_t)model_random(model, 0, classes ? OUT : 2);
        data->numbers[i] = likelihood == IVON_POISSON ? (float)data->labels[i]
                                                      : model_random(model, -1, 1);
    }
    data->examples = open_table(&data->table, EXAMPLES, 1, (const int64_t[]){IN}, data->x,
                                regression ? IVON_F32 : IVON_I64, !classes, (const int64_t[]){OUT},
                                regression ? (const void *)data->numbers : data->labels);
}

static inline void data_end(struct structured_data *data)
{
    ivon_examples_close(data->examples);
}

static inline void data_predict(const struct structured_data *data, const double *f, double *p)
{
    double sum = 0;
    for (size_t c = 0; c < OUT; c++)
        sum += exp(f[c]);
    for (size_t c = 0; c < OUT; c++)
        p[c] = data->likelihood == IVON_CATEGORICAL ? exp(f[c]) / sum
               : data->likelihood == IVON_BERNOULLI ? 1 / (1 + exp(-f[c]))
               : data->likelihood == IVON_POISSON   ? exp(f[c])
                                                    : f[c];
}

/* e of example i. */
static inline void data_residual(const struct structured_data *data, size_t i, const double *p,
                                 double *e)
{
    for (size_t c = 0; c < OUT; c++)
        switch (data->likelihood) {
        case IVON_CATEGORICAL:
            e[c] = p[c] - ((int64_t)c == data->labels[i]);
            break;
        case IVON_BERNOULLI:
            e[c] = p[c] - (double)data->labels[i * OUT + c];
            break;
        case IVON_GAUSSIAN:
            e[c] = (p[c] - (double)data->numbers[i * OUT + c]) / (NOISE * NOISE);
            break;
        default:
            e[c] = p[c] - (double)data->numbers[i * OUT + c];
        }
}

/* The columns of a root of Λ. */
static inline void data_root(const struct structured_data *data, const double *p,
                             double root[OUT][OUT])
{
    for (size_t c = 0; c < OUT; c++)
        for (size_t k = 0; k < OUT; k++)
            root[c][k] = data->likelihood == IVON_CATEGORICAL ? sqrt(p[k]) * (p[c] - (c == k))
                         : c != k                             ? 0
                         : data->likelihood == IVON_BERNOULLI ? sqrt(p[c] * (1 - p[c]))
                         : data->likelihood == IVON_GAUSSIAN  ? 1 / NOISE
                                                              : sqrt(p[c]);
}

/* The gradients Jᵀ r of all columns r of an example, as vectors of a dense covariance. */
static inline void data_columns(const struct structured *structured,
                                const struct structured_data *data, const struct dense *dense,
                                size_t i, double columns[OUT][DENSE_MOST])
{
    double f[OUT], p[OUT], root[OUT][OUT], jacobian[OUT][RANDOM], sum[RANDOM];
    structured_run(structured, data->x + i * IN, f, jacobian);
    data_predict(data, f, p);
    data_root(data, p, root);
    for (size_t k = 0; k < OUT; k++) {
        for (size_t j = 0; j < RANDOM; j++) {
            sum[j] = 0;
            for (size_t c = 0; c < OUT; c++)
                sum[j] += jacobian[c][j] * root[c][k];
        }
        structured_to_dense(dense, sum, columns[k]);
    }
}

#endif
