/*
 * The sums of operators that merging solves (structured.h). A vector of a system holds the arrays
 * of its segments, one for each group, in coordinates of the group's shared basis; an operator is
 * that of an input, with V = Qᵀ U for its basis U.
 *
 * V are rounded to float once, as the bases are that they are made of, and that is the operator: an
 * error of 2^-24 of each element changes x·S x by as much of its terms, however much precisions
 * differ between directions. Sums are in double, but for the steps of conjugate gradients, whose
 * products in float take half the time (solve.c). All work is divided among threads in pieces that
 * do not depend on them.
 */
#ifndef BAYES_MERGE_SYSTEM_H
#define BAYES_MERGE_SYSTEM_H

#include "bayes/merge/structured/structured.h"

struct merge_operator {
    double *values;           /* s: o × n */
    float *turn[MERGE_SIDES]; /* V: n × n and o × o; null: the identity */
    double *vectors;          /* D^(1/2) v of each v of a correction: r × (o n); null: none */
    double *plain;            /* the diagonal of the operator in the parameters' own coordinates */
};

struct merge_segment {
    const struct merge_group *group;
    size_t rows, columns, size;
    size_t offset;                    /* in vectors of the system */
    double *basis[MERGE_SIDES];       /* Q; null: the identity */
    struct merge_operator *operators; /* of each input */
};

struct merge_system {
    struct merge_run *run;
    struct thread_pool *pool;
    struct merge_segment *segments;
    size_t segment_count, size;
    size_t inputs;
    bool plain;                /* whether operators have their plain diagonals */
    double *reference;         /* X_0, in the parameters' own coordinates */
    double **sides;            /* of each model: J_t, S[m_t − X_0], in the shared bases */
    double *scratch;           /* of one vector */
    double *work[2];           /* of the largest segment */
    float *floats[2];          /* the same */
    double *wide[MERGE_SIDES]; /* one V of the largest segment, in double */
    double *part;              /* r numbers of any input */
};

/* C = op(A) op(B), dense, row-major, on the pool's threads. */
int matrix_product(struct thread_pool *pool, bool transpose_a, bool transpose_b, size_t m, size_t n,
                   size_t k, const double *a, const double *b, double *c, struct ivon_error *error);

/* The lower triangle of `sum` += that of U a Uᵀ, U n × n. */
int matrix_add_symmetric(struct thread_pool *pool, size_t n, const double *basis,
                         const double *values, double *sum, struct ivon_error *error);

/* The place of an element of the group's weight or bias in the group's array. */
size_t matrix_index(const struct merge_group *group, bool is_bias, size_t element);

/* Places slope e + intercept, of the elements e of a tensor [first, first + count), which are those
   of the group's weight or bias, into the group's array. Fails on one that is not finite. */
int matrix_place(struct ivon_source *source, size_t tensor, size_t first, size_t count,
                 const struct merge_group *group, bool is_bias, double slope, double intercept,
                 double *x, struct ivon_error *error);

/* All elements of a tensor. Fails on one that is not finite. */
int matrix_read(struct ivon_source *source, size_t tensor, double *out, struct ivon_error *error);

/* m of the group's tensors of an input. */
int matrix_means(const struct ivon_merge *merge, size_t input, const struct merge_group *group,
                 double *x, struct ivon_error *error);

/* x ← V_B x V_Aᵀ, or with `back` V_Bᵀ x V_A; null matrices are the identity. `scratch` is as
   large. */
int matrix_rotate(struct thread_pool *pool, double *const turn[MERGE_SIDES], bool back, size_t rows,
                  size_t columns, double *x, double *scratch, struct ivon_error *error);

/* The same of floats, exchanging *x and *scratch for each matrix. */
int matrix_rotate_floats(struct thread_pool *pool, float *const turn[MERGE_SIDES], bool back,
                         size_t rows, size_t columns, float **x, float **scratch,
                         struct ivon_error *error);

/* out += c (V_B∘V_B) x (V_A∘V_A)ᵀ. `work` are two arrays of the size. */
int matrix_add_diagonal(struct thread_pool *pool, float *const turn[MERGE_SIDES], size_t rows,
                        size_t columns, double c, const double *x, double *out,
                        double *const work[2], struct ivon_error *error);

/* Reads the groups [first, first + count) into a system. */
int system_load(struct merge_system *system, struct merge_run *run, struct thread_pool *pool,
                size_t first, size_t count, struct ivon_error *error);
void system_release(struct merge_system *system);

/* Reads an input's own basis of a side, the identity where it has none; to be freed. */
int system_own_basis(struct merge_system *system, const struct merge_segment *segment, size_t input,
                     int side, double **basis, struct ivon_error *error);

/* Bytes that system_load would take. */
double system_memory(const struct ivon_merge *merge, size_t first, size_t count);

/* The factor of each input in the sum of a result; `factors` has one for each input. */
void system_factors(const struct merge_system *system, const struct merge_entry *entry,
                    size_t result, double *factors);

/* out = Σ c S of the inputs, applied to x. */
int system_apply(struct merge_system *system, const double *factors, const double *x, double *out,
                 struct ivon_error *error);

/* The same with products in float, of inputs without corrections: to 2^-24 of its terms, whatever
   their size. */
int system_apply_floats(struct merge_system *system, const double *factors, const double *x,
                        double *out, struct ivon_error *error);

/* The exact diagonal of Σ c S in the shared bases, or `plain` in the parameters' own
   coordinates. */
int system_diagonal(struct merge_system *system, const double *factors, bool plain, double *out,
                    struct ivon_error *error);

struct system_solution {
    size_t iterations;
    bool converged;
    double curvature; /* where it is not positive: the least that was met, else 1 */
};

/* Solves Σ c S [y] = b for y, given the diagonal of Σ c S, to `tolerance` of y in the norm of
   Σ c S. */
int system_solve(struct merge_system *system, const double *factors, const double *diagonal,
                 const double *b, double tolerance, double *y, struct system_solution *solution,
                 struct ivon_error *error);

/* Writes the result's means, X_0 + Q_B y Q_Aᵀ, of which `y` is overwritten. */
int write_means(struct merge_system *system, size_t result, double *y, struct ivon_error *error);

/* Writes the group's means from an array of its own. */
int write_matrix(struct merge_run *run, size_t result, const struct merge_group *group,
                 const double *x, struct ivon_error *error);

/* Writes Hessians from the precisions' diagonal, and bases. */
int write_precision(struct merge_system *system, size_t result, const double *diagonal,
                    struct ivon_error *error);

/* Writes the base's Hessians and bases, of one without corrections, where results have blocks. */
int write_base(struct merge_system *system, size_t result, struct ivon_error *error);

/* Writes the result's low-rank correction upon the diagonal D, and its text. */
int write_low_rank(struct merge_system *system, size_t result, const double *factors,
                   const double *base, struct ivon_error *error);

/* Writes elements [first, first + count) of a tensor of floats. */
int write_floats(struct merge_run *run, size_t result, ptrdiff_t output, size_t first,
                 const double *values, size_t count, struct ivon_error *error);

/* Writes the text of a result's structure. */
int write_text(struct merge_run *run, size_t result, const double *values,
               struct ivon_error *error);

#endif
