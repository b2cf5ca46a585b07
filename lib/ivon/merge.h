/*
 * Merging the posteriors of finetuned models.
 *
 * Notation, per element: a base (m_0, S_0) and models (m_t, h_t) with data precision
 * H_t = hessian_scale λ_t h_t, full precision S_t = λ_t (hessian_scale h_t + δ_t), weights α_t of
 * either sign, and a scale s (see `scales`) that multiplies every α_t. S_0 = base_scale λ_0 (h_0 +
 * δ_0), or base_scale delta0 when the base has no Hessian. α_t is the model's weight, or its weight
 * for the tensor that the element is in.
 *
 *   method              merged mean                                           merged precision
 *   gradient matching   m_0 + s Σ α_t [(S_0 + H_t)/(S_0 + s Σ_r α_r H_r)] (m_t − m_0)
 *                                                                             S_0 + s Σ α_t H_t
 *   hessian             Σ α_t S_t m_t / Σ α_t S_t                             Σ α_t S_t
 *   task arithmetic     m_0 + s Σ α_t (m_t − m_0)                             S_0 + s Σ α_t H_t
 *   average             Σ α_t m_t / Σ α_t                                     Σ α_t S_t
 *   RegMean             W̄ + [Σ α_t λ_t (W_t − W̄) A_t] (Σ α_t λ_t A_t + ε I)^(−1)           –
 *
 * The other methods give means alone, but the last; d_t = m_t − m_0, tensor by tensor:
 *   ties         m_0 + s Σ_A α_t d_t / Σ_A |α_t|: of each d_t all but the round(density n) largest
 *                magnitudes of its n elements, one at least, are set to zero; A, per element, has
 *                the models whose α_t d_t has the sign of Σ α_t d_t (where that is 0, none)
 *   dare         m_0 + s Σ α_t b_t d_t / density, b_t = 1 with probability density, else 0
 *   dare-ties    as ties, with b_t d_t / density in place of the d_t that were trimmed
 *   breadcrumbs  m_0 + s Σ α_t d_t, where of each d_t the round(outliers n) largest magnitudes (at
 *                most n − k) are set to zero, and all but the k = round(density n) next ones
 *   slerp        [sin((1 − t) θ) a + sin(t θ) b] / sin θ, of a base a and a model b with t = s α,
 *                or of two models with t = α_b / (α_a + α_b); θ is the angle between a and b.
 *                (1 − t) a + t b where |cos θ| > 0.9995, or one is zero
 *   model stock  m_0 + c Σ d_t / N, c = N cos θ / (1 + (N − 1) cos θ), cos θ the mean over pairs of
 *                models of the cosine between their d_t, 0 with a d_t of zeros; c = 0 unless
 *                cos θ > 0. All α_t and s are 1
 *   passthrough  the tensor, and its Hessian if all have one, of the only model with α_t ≠ 0
 * Elements of equal magnitude rank by their index, the first highest. b_t of element 8k + i is set
 * where half i (0: the low half of word 0) of block k of core/random.h's words is below
 * density 2^32; the seed is `seed`, the sample the model's place by path and weight, the name the
 * tensor's.
 *
 * TIES: Yadav et al. 2023, arXiv:2306.01708 (trims over all tensors of a model at once; all α_t
 * are 1, s is its λ). DARE: Yu et al. 2023, arXiv:2311.03099. Breadcrumbs: Davari & Belilovsky
 * 2023, arXiv:2312.06795. Model stock: Jang et al. 2024, arXiv:2403.19522.
 *
 * Gradient matching: Daheim et al., ICLR 2024, arXiv:2310.12808; the Gaussian q_0 Π (q_t/q_0)^α_t
 * of tasks whose precision is S_0 + H_t. One model with weight 1 is given back bit by bit.
 *
 * The merged (h, λ, δ) keep the precision: λ is `ess`, else the base's, else Σ |s α_t| λ_t; λδ is
 * base_scale λ_0 δ_0, base_scale delta0, or, without a base in the formula, max(0, Σ α_t λ_t δ_t).
 * Average and task arithmetic give a precision only when all that it takes is there.
 *
 * Of structured posteriors (ivon-posterior(5)) H and S are operators in these formulas: in a block
 * S_t[X] = λ_t U_B ((h_t + δ_t) ⊙ (U_Bᵀ X U_A)) U_Aᵀ, and the means solve linear systems, by
 * conjugate gradients to 1e-6 of the solution in the norm of the merged precision: for each block
 * (Tam et al. 2023, arXiv:2312.04339), or, where an input has a low-rank correction, for all
 * tensors at once. Diagonal inputs mix with them. The result's blocks are in one basis, the inputs'
 * if all have the same, else that of their factors' sum, or of the first input that has one, base
 * before models, where factors are not known or have more than 8192 rows. Their precision is the
 * exact diagonal of the sum there: all of it, where the inputs share the basis. Sums of low-rank
 * corrections upon diagonals are exact.
 *
 * RegMean (Jin et al. 2023, arXiv:2212.09849): of a weight of which every model has A_t, the mean
 * of the products of its inputs (IVON_GRAM, or the input basis with its spectrum), W̄ being
 * Σ α_t W_t / Σ α_t, λ_t the model's ess, or 1, and ε = √n 2^−23 tr(Σ α_t λ_t A_t)/n, the error of
 * factors in binary32; of other tensors the average. The result has Σ α_t λ_t A_t / Σ α_t λ_t, to
 * be merged again.
 *
 * Arithmetic is in double, every result rounded once. Models are summed in an order that depends
 * on their names and weights alone.
 */
#ifndef IVON_MERGE_H
#define IVON_MERGE_H

#include <stdbool.h>

#include "ivon/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ivon_merge_method {
    IVON_MERGE_GRADIENT_MATCHING,
    IVON_MERGE_HESSIAN,
    IVON_MERGE_TASK_ARITHMETIC,
    IVON_MERGE_AVERAGE,
    IVON_MERGE_REGMEAN,
    IVON_MERGE_TIES,
    IVON_MERGE_DARE,
    IVON_MERGE_DARE_TIES,
    IVON_MERGE_SLERP,
    IVON_MERGE_MODEL_STOCK,
    IVON_MERGE_BREADCRUMBS,
    IVON_MERGE_PASSTHROUGH
};

struct ivon_merge_method_traits {
    const char *name;                     /* "gradient-matching" */
    size_t models;                        /* the fewest that it takes */
    bool density, outliers, seed, shrink; /* the options of these names mean something to it */
};

/* The part of the structure of the inputs' precisions that a result keeps. */
enum ivon_merge_structure {
    IVON_MERGE_STRUCTURE_KEEP, /* blocks, or the correction where no input has a basis */
    IVON_MERGE_DIAGONAL,
    IVON_MERGE_KRONECKER, /* blocks */
    IVON_MERGE_LOW_RANK,  /* a low-rank correction upon a diagonal; no input may have a basis */
    IVON_MERGE_MEANS      /* no precision: means and buffers, without ess and weight decay */
};

/* Null where there is no such method; methods are numbered from 0 without a gap. */
IVON_API const struct ivon_merge_method_traits *ivon_merge_method_traits(
    enum ivon_merge_method method);

/* The treatment of a tensor that an input lacks, or has in another shape. */
enum ivon_merge_mismatch {
    IVON_MISMATCH_ERROR,
    IVON_MISMATCH_BASE, /* the base's tensor is kept; what the base lacks is left out */
    IVON_MISMATCH_SKIP  /* the tensor is left out */
};

/*
 * The treatment of tensors that the inputs have with different numbers of rows (their first axis)
 * and otherwise in one shape, of one or two axes: embeddings and output layers of vocabularies of
 * different size. The rows that all inputs have are merged; the result has the rows of one input,
 * whose others it takes with their own precision. An input has equally many rows in all such
 * tensors that are merged.
 */
enum ivon_merge_vocabulary {
    IVON_VOCABULARY_MISMATCH, /* as of any other shape */
    IVON_VOCABULARY_BASE,     /* the rows of the base, or without one of the first model */
    IVON_VOCABULARY_LONGEST   /* the rows of the input that has most; of equals the base, else the
                                 first by path and weight */
};

/* The treatment of elements whose merged precision is not positive. */
enum ivon_merge_nonpositive {
    IVON_NONPOSITIVE_ERROR,
    IVON_NONPOSITIVE_BASE /* they keep the base's mean and precision */
};

struct ivon_merge_options {
    size_t size; /* sizeof this struct: set by ivon_merge_defaults() */
    enum ivon_merge_method method;
    double delta0;        /* precision of a base without a Hessian; NaN: none is given */
    double base_scale;    /* multiplies S_0 */
    double hessian_scale; /* multiplies the models' h_t */
    double ess;           /* of the result; NaN: as above */
    int dtype;            /* of merged means; IVON_DTYPE_KEEP: the base's, else the widest */
    enum ivon_merge_mismatch on_mismatch;
    enum ivon_merge_vocabulary vocabulary;
    enum ivon_merge_nonpositive on_nonpositive;
    /* Returns whether to merge the tensor of that name; null: all. The others are kept as the base,
       or without one the first model, has them. */
    bool (*selected)(void *context, const char *name);
    void *selected_context;
    /* Returns whether the results can hold an opaque tensor of the base, or without a base of the
       first model; null: none. None of these may be selected; those that cannot be held are left
       out. Of results of means alone it is asked of the graph, too. */
    bool (*carries)(void *context, const struct ivon_tensor *tensor);
    void *carries_context;
    /* Returns the weight of a model, by its place in the caller's list, for the tensor of that
       name; null: the model's own. */
    double (*weight)(void *context, size_t model, const char *name);
    void *weight_context;
    const double *scales; /* one result for each; null: the single scale 1 */
    size_t scale_count;
    /* Instead of scales one result for each row of `vectors`, which multiplies the weights: as many
       numbers as there are models, in the caller's order. Null: none. */
    const double *vectors;
    size_t vector_count;
    double shrink; /* of RegMean: multiplies A_t off its diagonal; from 0 to 1 */
    enum ivon_merge_structure out_structure;
    bool movement;                   /* compute ivon_merge_movement: about doubles the arithmetic */
    struct ivon_resources resources; /* memory: what the merge itself may allocate; 0: 256 MiB;
                                        ranks: see ivon_merge_run */
    double density;  /* share of the elements of m_t - m_0 that are kept; NaN: 0.2 */
    double outliers; /* of breadcrumbs, the share of the largest that is dropped; NaN: 0.01 */
    uint64_t seed;   /* of what is dropped by chance */
};

/* Gradient matching of one scale, 1; everything else as it says beside it. */
IVON_API void ivon_merge_options_init(struct ivon_merge_options *options, size_t size);
static inline struct ivon_merge_options ivon_merge_defaults(void)
{
    struct ivon_merge_options options;
    ivon_merge_options_init(&options, sizeof options);
    return options;
}

struct ivon_merge_model {
    struct ivon_source *source;
    double weight;
};

enum ivon_merge_fate {
    IVON_MERGED,
    IVON_KEPT,   /* taken from the base, or without one from the first model */
    IVON_SKIPPED /* left out of the result */
};

struct ivon_merge_tensor {
    const char *name;
    enum ivon_merge_fate fate;
    const char *reason; /* why it was kept or skipped; null when merged */
    size_t count;
    /* If the inputs' rows differ in number: how many were merged, the first ones, and how many
       follow them, taken from the input at that path; else 0, 0 and null. */
    size_t merged_rows, other_rows;
    const char *others_from;
};

/* Two names of one tensor: in the input at `path` they hold the same bits, and inputs that lack
   `name` have `other`. */
struct ivon_merge_tie {
    const char *name, *other, *path;
};

struct ivon_merge;

/*
 * Plans a merge of `model_count` models, with or without a base. The sources stay the caller's
 * and must outlive the plan. Nothing but names and shapes is read, unless an input lacks a tensor
 * that may be another of its own under a second name.
 *
 * Refuses quantized weights and the factors of adapters, of which no merge can be made (see
 * ivon/adapter.h), and models that share no tensor with the base, or without one with the first of
 * them.
 */
IVON_API int ivon_merge_plan(struct ivon_merge **merge, struct ivon_source *base,
                             const struct ivon_merge_model *models, size_t model_count,
                             const struct ivon_merge_options *options, struct ivon_error *error);
IVON_API void ivon_merge_free(struct ivon_merge *merge);

/* The tensors of every result, to make sinks from; borrowed. */
IVON_API const struct ivon_tensor *ivon_merge_outputs(const struct ivon_merge *merge,
                                                      size_t *count);

/* The header of one result: ess and weight decay, the rest absent. Both are of the models' own
   weights, whatever those of single tensors are. */
IVON_API struct ivon_header ivon_merge_header(const struct ivon_merge *merge, size_t result);

/* The fate of each mean of any input, and of opaque tensors; borrowed. */
IVON_API const struct ivon_merge_tensor *ivon_merge_tensors(const struct ivon_merge *merge,
                                                            size_t *count);

/* Second names that some inputs lack; borrowed. */
IVON_API const struct ivon_merge_tie *ivon_merge_ties(const struct ivon_merge *merge,
                                                      size_t *count);

/*
 * The coefficient c_t of a model, by its place in the caller's list, in m − m_0 = Σ c_t (m_t − m_0)
 * of an output: 0 where the output is not merged, NaN where the method has none that holds for all
 * elements, or there is no base.
 */
IVON_API double ivon_merge_coefficient(const struct ivon_merge *merge, size_t output, size_t model,
                                       size_t result);

/* Bytes to be read from all inputs. */
IVON_API uint64_t ivon_merge_input_bytes(const struct ivon_merge *merge);

/*
 * Reads every input once and writes sinks[i], made of the plan's outputs, for every result i. With
 * methods that rank magnitudes or measure angles it reads each tensor a few times more before that,
 * at most ten for each model. The sinks are not committed. On failure none of them may be. May be
 * run once.
 *
 * With ranks each of them merges a part, and writes it into its own sink: one that all ranks made
 * together (ivon_checkpoint_create). What the functions below tell of the run, it tells to rank 0.
 */
IVON_API int ivon_merge_run(struct ivon_merge *merge, struct ivon_sink *const *sinks,
                            struct ivon_error *error);

/* After a run: how many elements kept the base's value, as their precision was not positive. */
IVON_API uint64_t ivon_merge_nonpositive_count(const struct ivon_merge *merge, size_t result);

/* How the means of blocks were found. */
struct ivon_merge_solve {
    const char *name;  /* of the weight; null: of all tensors at once */
    size_t iterations; /* of conjugate gradients; the most of any result */
    bool converged;    /* of all results */
};

/* After a run: one for each block that was solved for, or one for all; borrowed. */
IVON_API const struct ivon_merge_solve *ivon_merge_solves(const struct ivon_merge *merge,
                                                          size_t *count);

/* After a run: how many buffers differ between the inputs, so that the base's, or without a base
   the first model's, says less than it should; and the name of the first of them, else null;
   borrowed. */
IVON_API const char *ivon_merge_buffer_conflict(const struct ivon_merge *merge, size_t *count);

/*
 * After a run with `movement`: the Euclidean norm, over all merged elements, of how far model
 * `model` (as ordered by the caller) moved the result. With a base in the formula that is its term
 * of m − m_0 (of slerp, its coefficient times m_t − m_0); otherwise its pull w_t (m_t − m), w_t
 * being its share of the weights. *total receives the norm of m − m_0, or zero where there is no
 * such thing. Zero of tensors that are passed through. Units of the mean.
 */
IVON_API double ivon_merge_movement(const struct ivon_merge *merge, size_t model, size_t result,
                                    double *total);

#ifdef __cplusplus
}
#endif

#endif
