/* The inside of a plan: built by plan.c, fused by plan/fuse.c, laid out by plan/memory.c. */
#ifndef NET_PLAN_PRIVATE_H
#define NET_PLAN_PRIVATE_H

#include "net/ops/attention/fused.h"
#include "net/ops/convolution/finish.h"
#include "net/plan/plan.h"
#include "net/graph/training.h"

/* The time at which the elements of a value are known. */
enum plan_stage {
    PLAN_KNOWN,     /* when the plan is made */
    PLAN_PARAMETER, /* when the parameters are set */
    PLAN_RUN
};

enum plan_step_kind {
    PLAN_CALL,
    PLAN_ALIAS, /* output 0 is input 0, in the same memory */
    PLAN_CHAIN,
    PLAN_ATTENTION,
    PLAN_JOINED, /* done by the step whose output it takes, in place, unless that is observed */
    PLAN_PAIRED, /* done by the step that takes its output, which is stored only if observed */
    PLAN_DROPPED /* not needed, or part of a later step */
};

struct plan_step {
    enum plan_step_kind kind;
    enum plan_stage stage;
    struct net_call call;
    size_t *inputs;  /* values read, one for each input of the call (NET_NONE: none) */
    size_t *outputs; /* values written */
    size_t input_count, output_count;
    /* Of a chain: links that take their operands from `inputs`, whose first is the input. */
    struct net_chain chain;
    struct net_chain_link *links;
    struct attention_fused *attention; /* or null */
    bool joins;                        /* it does these, too */
    struct net_finish finish;
    struct plan_step *before; /* whose output this one takes while it is computed; or null */
};

struct plan_value {
    struct net_tensor tensor;
    enum plan_stage stage;
    bool owned;    /* tensor.data was allocated for a known value */
    bool skipped;  /* of a branch that is not taken: it has no type, no shape and no elements */
    size_t root;   /* the value whose memory this one shares; itself where none */
    size_t uses;   /* by steps that are not dropped, and as output of the network */
    size_t offset; /* in the arena, of a root that lies there; NET_NONE elsewhere */
};

/* The computed values that a plan keeps in memory. */
enum plan_keep {
    PLAN_KEEP_OUTPUTS, /* memory is reused; steps are fused, so that few values need any */
    PLAN_KEEP_ALL,     /* each keeps its elements until the next run, for derivatives */
    PLAN_KEEP_NONE     /* only shapes are planned: the caller gives addresses to every value */
};

struct net_plan {
    const struct ivon_network *network;
    const struct net_training *training; /* null: in evaluation */
    struct net_masks masks;              /* of Dropout in training */
    enum plan_keep keep;
    struct plan_value *values; /* as the network's */
    struct plan_step *steps;   /* as the network's nodes */
    unsigned char *arena, *workspace;
    unsigned char *aside; /* values that are stored only while the plan is observed; or null */
    size_t arena_size, workspace_size, known_size;
    bool mixed;
    void (*observe)(void *context, const struct net_call *call);
    void *observe_context;
};

/* net_plan_new, which keeps outputs and is for evaluation, for any `keep`; for training unless
   `training` is null. */
int plan_new(struct net_plan **plan, const struct ivon_network *network,
             const struct net_training *training, const struct net_tensor *inputs,
             enum plan_keep keep, size_t memory, struct ivon_error *error);

/* Gives MatMul untransposed operands, and drops steps that no output needs any more. */
int plan_fuse_transposes(struct net_plan *plan, struct ivon_error *error);

/* Returns whether a step exchanges the last two axes of its input, and moves no other. */
bool plan_swaps_last_two(const struct plan_step *step);

/* Joins element-wise steps that follow each other into chains. */
int plan_fuse_chains(struct net_plan *plan, struct ivon_error *error);

/* After that: puts one link in the place of those of a gate of Gelu. */
void plan_fuse_gates(struct net_plan *plan);

/* After chains: joins a product, edits of its elements, softmax and a product into one step. */
int plan_fuse_attention(struct net_plan *plan, struct ivon_error *error);

/* After that: lets MatMul add a row to its output. */
int plan_fuse_biases(struct net_plan *plan, struct ivon_error *error);

/* Lets steps that can finish their outputs do the element-wise steps that follow, in place. */
int plan_fuse_finishes(struct net_plan *plan, struct ivon_error *error);

/* After that: lets steps take outputs while they are computed, where operators can. */
void plan_fuse_pairs(struct net_plan *plan);

/* Counts the uses of every value, and drops the steps whose outputs have none. */
void plan_count_uses(struct net_plan *plan);

/* Gives memory to the values that a plan stores only while it is observed. */
int plan_set_aside(struct net_plan *plan, struct ivon_error *error);

/* Finds a place in the arena for every value that is computed, and sizes the workspace. */
int plan_lay_out(struct net_plan *plan, struct ivon_error *error);

#endif
