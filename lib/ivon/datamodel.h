/*
 * The linear datamodelling score of influences (Park et al., ICML 2023, arXiv:2303.14186): networks
 * are trained on random halves S of the training data, and for each query j
 *
 *   lds_j = Spearman's rank correlation, over the halves, of Σ_{i∈S} I_ij and −M_j
 *
 * with I_ij the influence of training example i (ivon/influence.h) and M_j what is measured of the
 * query by the network of S. I_ij being by how much removing the example raises M_j, a half that
 * holds the query's proponents has a network with a low M_j. The score says how well influences
 * foretell what was not only computed but done.
 *
 * Everything depends on data, settings and seeds alone, to the last bit: not on threads or memory.
 */
#ifndef IVON_DATAMODEL_H
#define IVON_DATAMODEL_H

#include "ivon/influence.h"
#include "ivon/train.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ivon_halves;

/* Draws `count` subsets of the numbers below `rows`, each of ⌊rows/2⌋; at least 2 rows. */
IVON_API int ivon_halves_new(struct ivon_halves **halves, uint64_t rows, size_t count,
                             uint64_t seed, struct ivon_error *error);
IVON_API void ivon_halves_free(struct ivon_halves *halves);

/* How many rows each has. */
IVON_API size_t ivon_halves_size(const struct ivon_halves *halves);

/* The rows of one, rising; borrowed. */
IVON_API const uint64_t *ivon_halves_rows(const struct ivon_halves *halves, size_t half);

/* Adds the influences of a block of ivon_influence_run to the sums of the halves that its rows are
   in: count × `queries` numbers, which begin as 0. */
IVON_API void ivon_halves_add(const struct ivon_halves *halves, const struct ivon_influences *block,
                              uint64_t queries, double *sums);

/* The training on a half. */
struct ivon_halves_training {
    /* Its network is that of `open`, where that is given. */
    struct ivon_train_start start;
    /* Makes a network that is not bound, for one training, which frees it. Not called by several
       threads at once. */
    int (*open)(void *context, struct ivon_network **network, struct ivon_error *error);
    void *context;
    struct ivon_examples *examples; /* all of them */
    const char *targets;
    /* Of each. The resources are for all trainings together: as many at a time as there are threads
       where `memory` (0: 1 GiB) holds the data and states of so many, and then each has one of the
       threads. Progress: in steps of all trainings. */
    const struct ivon_train_options *options;
    struct ivon_examples *const *queries; /* sets of them, one after the other */
    size_t query_sets;
    enum ivon_measure measure;
    size_t output; /* of IVON_MEASURE_LOGIT */
};

/* Trains a network on each half, from the same start and seed, and measures the queries: `values`
   receives count × `queries` numbers, and `queries` says how many they are; of
   IVON_MEASURE_TOKEN_LOSS all tokens of all sequences. */
IVON_API int ivon_halves_train(const struct ivon_halves *halves,
                               const struct ivon_halves_training *training, uint64_t queries,
                               double *values, struct ivon_error *error);

struct ivon_datamodel_score {
    double mean;       /* over the queries that have a score; NaN: none has */
    double half_error; /* its standard error over halves, by the jackknife; the queries are fixed */
    double query_error; /* sd/√n over the n queries; the halves are fixed */
    uint64_t scored;    /* n */
};

/*
 * The score of each of `queries` queries, from count × queries sums and values M, and its standard
 * error over halves by the jackknife that leaves one out. A score is NaN where all sums, or all
 * values, are equal, or one is NaN; an error, also where that is so of all halves but one, or with
 * fewer than 3 halves.
 */
IVON_API int ivon_datamodel_score(struct ivon_datamodel_score *score, double *scores,
                                  double *errors, const double *sums, const double *values,
                                  size_t halves, uint64_t queries, struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
