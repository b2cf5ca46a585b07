/*
 * IVON, Bayes by Backprop, AdamW and SGD on a network's parameters: the state, and the loop over
 * it.
 *
 * One step, for a network whose weights are optimizer_parameter(…):
 *   optimizer_draw                            once, before the first step
 *   compute the gradient of the mini-batch mean loss; optimizer_step     `samples` times
 * Every optimizer_step leaves in the parameters where the next gradient is wanted.
 *
 * A matrix may have a basis (train/optimizer/basis.h), as in EVON, which is IVON in it, and SOAP,
 * which is AdamW.
 *
 * State of a tensor with P elements, all float32:
 *   mean      m
 *   hessian   IVON: h as it is saved, so that h + δ is the precision divided by the ess. Where the
 *             prior is a posterior, that is h_data + δ_p − δ. AdamW, Bayes by Backprop: the second
 *             moment v
 *   momentum  g, not debiased
 *   sample    IVON, Bayes by Backprop: θ, which the network takes; AdamW and SGD: the mean itself
 *   rho       Bayes by Backprop: ρ, σ = log(1 + e^ρ), with a momentum and a second moment
 * and, for more than one sample in a step, two sums. A step of one sample reads m, h, g, ĝ, θ and
 * writes m, h, g, and θ where it draws the next: 32 bytes an element, or 36. θ − m is read from θ
 * and not recomputed from ε: writing the next θ there needs that memory anyway, and a gradient
 * belongs to the θ that was rounded.
 *
 * Invariant: h + δ > 0, and every number is finite, always (train/optimizer/update.h). The state
 * that is saved is the state that is: training can be resumed to the same bits.
 *
 * Noise of sample s of step t, both from 0, element i of tensor NAME is normal number i of the
 * stream (seed, t·samples + s, NAME) of core/random.h. Antithetic, the numbers t·samples + s go in
 * pairs: an odd one takes the noise of the even one before it, negated. Pairs are of two steps in
 * turn where a step has one sample, and lie within a step where it has an even number of them.
 *
 * Lanes of IVON, in place of optimizer_step's one θ: the examples of a step are divided into L
 * lanes, and each lane draws its own θ_l and computes the gradient G_l of its examples' part of the
 * mean loss, so that their sum is that loss's. Then
 *   ĝ = Σ G_l        ĝ (θ − m) → Σ G_l (θ_l − m)
 * are the means of what each lane would estimate by itself, weighted by its number of losses (Shen
 * et al., ICML 2024, "distributed training"). Norms are clipped of the first sum, and the second is
 * scaled alike. The noise of lane l is that of sample (t·samples + s)·L + l above: one lane draws
 * what a step would.
 *   optimizer_draw_lane, G_l, optimizer_multiply_lane   of each lane, by any threads or ranks
 *   optimizer_step_lanes, of the two sums               `samples` times
 */
#ifndef TRAIN_OPTIMIZER_OPTIMIZER_H
#define TRAIN_OPTIMIZER_OPTIMIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ivon/error.h"

enum optimizer_method { OPTIMIZER_IVON, OPTIMIZER_ADAMW, OPTIMIZER_SGD, OPTIMIZER_BACKPROP };

/* ĥ: Price's theorem, ĝ (θ − m)/σ²; or λ ĝ², whose factor λ is disputed. */
enum optimizer_estimator { OPTIMIZER_PRICE, OPTIMIZER_SQUARED };

struct optimizer_options {
    enum optimizer_method method;
    enum optimizer_estimator estimator;
    uint64_t hessian_every; /* IVON: steps 1, 1 + this, … change the Hessian; 0: all do */
    unsigned samples;       /* of a step, whose means are taken; 1 unless weights are drawn */
    uint64_t seed;          /* of the noise */
    bool antithetic;        /* samples in pairs of opposite noise */
    double norm_clip;       /* the largest norm of a sample's ĝ over all tensors; INFINITY: any */
    unsigned basis_every;   /* steps between new bases; 0: they stay what they are */
    double basis_beta;      /* β₃, of their moments */
    size_t lanes;           /* IVON by Price without bases: L, which draw for themselves; 0: none */
    struct thread_pool *thread_pool; /* for the passes, borrowed; null: the calling thread */
};

/* The settings by which a set of tensors is updated. Fields of another method are ignored. */
struct optimizer_group {
    double rate;         /* multiplied by the schedule's factor */
    double weight_decay; /* δ; of AdamW decoupled, of SGD added to the gradient */
    double beta1;        /* of SGD: the momentum */
    double beta2;        /* not of SGD */
    bool debias;         /* divide by 1 − βᵗ: of IVON g alone, of Adam both moments */
    double ess;          /* IVON, Bayes by Backprop: λ */
    double hessian_init; /* these: h₀, of which σ begins as 1/√(λ (h₀ + δ)) */
    bool rescale;        /* IVON: α = rate (h₀ + δ) */
    double clip;         /* IVON: ξ, of each element's step before α; INFINITY: none */
    double epsilon;      /* AdamW, Bayes by Backprop */
};

/* The defaults of math.md, and PyTorch's for the others; rate and IVON's ess are NaN: required. */
struct optimizer_group optimizer_group_defaults(enum optimizer_method method);

struct optimizer_tensor {
    const char *name;
    size_t count;
    size_t group;
    /* IVON and AdamW: a matrix of rows × columns as it is stored, whose state lies in a basis on
       the left, the right or both of them (train/optimizer/basis.h). */
    size_t rows, columns;
    bool left, right;
};

struct optimizer;

/* Means, momenta and second moments are zero, Hessians h₀. Copies everything. Fails
   (IVON_ERROR_ARGUMENT) if a setting is out of range; the message names a tensor of that group. */
int optimizer_new(struct optimizer **optimizer, const struct optimizer_options *options,
                  const struct optimizer_group *groups, size_t group_count,
                  const struct optimizer_tensor *tensors, size_t tensor_count,
                  struct ivon_error *error);
void optimizer_free(struct optimizer *optimizer);

/* The arrays of a tensor, 64-byte aligned, for reading and, between steps, for setting: the start
   of a training, or its resumption. A Hessian that is set must keep h + δ above 0. Null: there is
   none. Borrowed. */
float *optimizer_mean(const struct optimizer *optimizer, size_t tensor);
float *optimizer_hessian(const struct optimizer *optimizer, size_t tensor);
float *optimizer_momentum(const struct optimizer *optimizer, size_t tensor);

/*
 * Of a tensor with a basis the arrays above are in it, X' = Q_Lᵀ X Q_R. Before the first step it is
 * the identity. Its mean as the network has it is where optimizer_network_mean says, once
 * optimizer_place_means has been called after the last step; that of any other tensor always is.
 */
int optimizer_place_means(struct optimizer *optimizer, struct ivon_error *error);
const float *optimizer_network_mean(const struct optimizer *optimizer, size_t tensor);

/* The basis of a tensor, left or right, and the moment that it follows; square matrices, for
   reading and, as the arrays above, for setting. Null: there is none. Borrowed. */
float *optimizer_basis(const struct optimizer *optimizer, size_t tensor, bool right);
float *optimizer_basis_moment(const struct optimizer *optimizer, size_t tensor, bool right);

/* Bayes by Backprop's ρ and its moments, as the arrays above; else null. */
float *optimizer_rho(const struct optimizer *optimizer, size_t tensor);
float *optimizer_rho_momentum(const struct optimizer *optimizer, size_t tensor);
float *optimizer_rho_second(const struct optimizer *optimizer, size_t tensor);

/* Sets out to the Hessians that ρ means, 1/(λ σ²) − δ, of all elements of a tensor; every sum of
   one and δ is positive. Of Bayes by Backprop alone. */
void optimizer_rho_hessian(const struct optimizer *optimizer, size_t tensor, float *out);

/* Returns the array that the network uses as the tensor; of lanes, which have their own, the mean.
   Borrowed. */
const float *optimizer_parameter(const struct optimizer *optimizer, size_t tensor);

/*
 * IVON: takes a posterior as a tensor's prior, in place of weight decay to zero: its precision's
 * diagonal over λ, δ_p, for each element, and the pull δ_p (m − m_p). Where the precision is no
 * diagonal, the caller sets `pull` at the mean before the last gradient of each step; null
 * otherwise. The arrays are borrowed. Sets the stored Hessian to h₀ + δ_p − δ. Fails where some δ_p
 * is not finite or some h₀ + δ_p not positive.
 */
int optimizer_set_prior(struct optimizer *optimizer, size_t tensor, const float *prior_mean,
                        const float *prior_decay, const float *pull, struct ivon_error *error);

/* The settings by which a tensor is updated; borrowed. */
const struct optimizer_group *optimizer_group_of(const struct optimizer *optimizer, size_t tensor);

/* The number of completed steps, for debiasing and noise. */
uint64_t optimizer_steps(const struct optimizer *optimizer);

/* Continues after `steps` steps, with arrays that the caller has set. */
void optimizer_resume(struct optimizer *optimizer, uint64_t steps);

/* Sets the parameters: where weights are drawn to the first sample of the next step, else to the
   means. */
int optimizer_draw(struct optimizer *optimizer, struct ivon_error *error);

struct optimizer_report {
    bool updated;         /* the step is complete: the means moved */
    size_t bad_gradients; /* of a complete step: elements whose gradient is not finite */
    size_t overflows;     /* elements whose new state would not be finite */
    size_t tensor;        /* the first with one of these; SIZE_MAX: none */
    double norm;          /* of the gradient; NaN unless norms are clipped */
};

/*
 * Takes the gradient at the parameters, one array for each tensor, and after the last sample of a
 * step moves the means. `factor` is the schedule's, times each group's rate. `draw` says whether
 * another gradient will follow: the parameters are then its sample, and without it they keep the
 * old one.
 *
 * Elements that report->bad_gradients and report->overflows count keep their state. Where norms are
 * clipped and a gradient is not finite, there is no norm: every element of the step is then bad.
 */
int optimizer_step(struct optimizer *optimizer, const float *const *gradients, double factor,
                   bool draw, struct optimizer_report *report, struct ivon_error *error);

/* Sets the weights, one array for each tensor, to those that a lane draws for the next gradient. */
void optimizer_draw_lane(const struct optimizer *optimizer, size_t lane, float *const *weights);

/* Turns a lane's weights θ_l into the products G_l (θ_l − m). */
void optimizer_multiply_lane(const struct optimizer *optimizer, const float *const *gradients,
                             float *const *weights);

/* Returns whether the next step changes Hessians; where it does not, products count nothing. */
bool optimizer_estimates(const struct optimizer *optimizer);

/* optimizer_step, of sums over all lanes, which draw by themselves. */
int optimizer_step_lanes(struct optimizer *optimizer, const float *const *gradients,
                         const float *const *products, double factor,
                         struct optimizer_report *report, struct ivon_error *error);

#endif
