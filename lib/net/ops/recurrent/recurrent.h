/*
 * LSTM, GRU and RNN: in every direction, a state goes from step to step of a sequence,
 *
 *     a_t = x_t Wᵀ + h_{t-1} Rᵀ + b,    h_t = cell(a_t, h_{t-1}, …),
 *
 * for a batch at once. All x_t Wᵀ are one product before the first step. Where sequences of a batch
 * end earlier (sequence_lens), their state stays and their outputs are zero behind the end; in the
 * other direction the state stays until it comes to the end.
 *
 * Arrays over steps are time-major whatever the layout: steps × batch × width. States have a slot
 * more:
 *
 *     forwards   h_0 | x_0 → h_1 | x_1 → h_2 | …        slot t, then t + 1
 *     backwards        … | h_1 ← x_0 | h_2 ← x_1 | h_0  slot t + 1, then t
 *
 * so that the states before every step lie one after the other as the arguments do, and a weight's
 * derivative is one product too.
 */
#ifndef NET_OPS_RECURRENT_RECURRENT_H
#define NET_OPS_RECURRENT_RECURRENT_H

#include "net/ops/product/panel.h"
#include "net/ops/recurrent/activation.h"

struct recurrent_pass;
struct recurrent_motion;

enum { RECURRENT_GATES_MAX = 4, RECURRENT_FUNCTIONS_MAX = 3 };

/* A kind of cell. */
struct recurrent_cell {
    size_t gates;
    const char *functions[RECURRENT_FUNCTIONS_MAX]; /* the usual ones */
    size_t function_count;
    bool cells; /* has a cell's state beside the hidden one */
    bool kept;  /* keeps one more array (struct recurrent_pass) */

    /* Computes step t: the gates and the states after it. */
    void (*forward)(const struct recurrent_pass *pass, int64_t t);

    /* Given the adjoints of the states after step t, sets the slopes of its gates to the adjoints
       of their arguments, and the state adjoints to those before the step. */
    void (*backward)(const struct recurrent_pass *pass, int64_t t, float *hidden_adjoint,
                     float *cell_adjoint);

    /* Moves the state tangents on by step t. The tangents of arguments are there but for what
       comes from the states' tangents. */
    void (*tangent)(const struct recurrent_pass *pass, int64_t t,
                    const struct recurrent_motion *motion);
};

extern const struct recurrent_cell recurrent_lstm, recurrent_gru, recurrent_rnn;

/* The layer, at one set of shapes. */
struct recurrent {
    const struct recurrent_cell *cell;
    int64_t steps, batch, input, hidden;
    size_t directions;
    bool backwards;   /* the first direction */
    bool batch_first; /* layout 1 */
    bool coupled;     /* LSTM: f = 1 - i */
    bool reset_after; /* GRU: the reset gate acts behind the product with R */
    float clip;       /* of the arguments of gates; or INFINITY */
    struct activation functions[2][RECURRENT_FUNCTIONS_MAX];
};

/* One direction of a call. */
struct recurrent_pass {
    const struct recurrent *layer;
    size_t direction;
    bool backwards;
    const struct activation *functions;
    const float *x, *w, *r;
    const float *b, *p;     /* or null: biases, peepholes */
    float *bias;            /* of each gate, W's and R's */
    const int64_t *lengths; /* or null */
    float *gates;           /* arguments, then values */
    float *slopes;          /* of the gates; null in forward */
    float *hidden, *cells;  /* states; cells only for LSTM */
    float *kept;            /* GRU: r ⊙ h, or with reset_after h Rᵀ + b, of the state's gate */
    float *motion;          /* tangents of gates' arguments */
    float *kept_motion;     /* tangents of `kept` */
    float *states;          /* scratch: state adjoints or tangents, of 2 × batch */
    float *product;         /* scratch: batch × hidden */
    float *row;             /* scratch: 5 rows of the hidden width */
    float *step;            /* recurrent_product's scratch */
    float *panels;          /* Rᵀ as recurrent_product takes it */
    float *adjoint_panels;  /* R as its adjoint takes it */
    size_t *offsets;        /* of their rows */
};

/* The tangents that a step needs. */
struct recurrent_motion {
    float *hidden, *cell; /* of the states */
    const float *p;       /* of the peepholes; or null */
};

static inline int64_t recurrent_width(const struct recurrent *layer)
{
    return (int64_t)layer->cell->gates * layer->hidden;
}

/* The hidden width in whole panels. */
static inline int64_t recurrent_padded(const struct recurrent *layer)
{
    return (layer->hidden + PANEL_WIDTH - 1) / PANEL_WIDTH * PANEL_WIDTH;
}

/* Row (t, b) of the arrays over steps that are as wide as all gates, or as the state. */
static inline size_t recurrent_gate_row(const struct recurrent *layer, int64_t t, int64_t b)
{
    return (size_t)((t * layer->batch + b) * recurrent_width(layer));
}

static inline size_t recurrent_state_row(const struct recurrent *layer, int64_t t, int64_t b)
{
    return (size_t)((t * layer->batch + b) * layer->hidden);
}

/* The states before and after step t in `states`, of row b. */
static inline float *recurrent_before(const struct recurrent_pass *pass, float *states, int64_t t,
                                      int64_t b)
{
    return states + recurrent_state_row(pass->layer, t + pass->backwards, b);
}

static inline float *recurrent_after(const struct recurrent_pass *pass, float *states, int64_t t,
                                     int64_t b)
{
    return states + recurrent_state_row(pass->layer, t + !pass->backwards, b);
}

/* Returns whether sequence b has ended at step t. */
static inline bool recurrent_ended(const struct recurrent_pass *pass, int64_t t, int64_t b)
{
    return pass->lengths && t >= pass->lengths[b];
}

/* For shape rules: reads the layer; sets outputs, workspace and prepared. */
int recurrent_infer(struct net_call *call, const struct recurrent_cell *cell,
                    struct ivon_error *error);

/* Floats of the workspace; the pass's arrays point into it unless it is null. */
bool recurrent_workspace(const struct recurrent *layer, struct recurrent_pass *pass,
                         float *workspace, size_t *size);

int recurrent_forward(const struct net_call *call, struct ivon_error *error);
void recurrent_backward(const struct net_call *call, const float *const *output_adjoints,
                        float *const *input_adjoints);
void recurrent_tangent(const struct net_call *call, const float *const *input_tangents,
                       float *const *output_tangents);

/* Prepares and runs a direction; with slopes if derivatives follow. */
void recurrent_run(struct recurrent_pass *pass, const struct net_call *call, size_t direction,
                   bool slopes);

/* The distances of an operand's or output's rows: element (t, b) of Y, b of a state, begins at
   first + t * step + b * batch. */
struct recurrent_place {
    size_t first, step, batch;
};
struct recurrent_place recurrent_sequence_place(const struct recurrent *layer, size_t direction);
struct recurrent_place recurrent_state_place(const struct recurrent *layer, size_t direction);

/* out += a Rᵀ for gates [first, first + count) of one step's batch: `a` has rows of the hidden
   width, `out` rows of `stride` floats. Adds `bias`, of these gates, to each row; null: none. */
void recurrent_product(const struct recurrent_pass *pass, const float *a, const float *bias,
                       size_t first, size_t count, float *out, size_t stride);

/* The adjoint of that: a += d R. */
void recurrent_product_adjoint(const struct recurrent_pass *pass, const float *d, size_t stride,
                               size_t first, size_t count, float *a);

/* Sets the pass's panels: those of R itself, for adjoints, or of its transpose. */
void recurrent_pack(const struct recurrent_pass *pass, bool adjoint);

/* out = beta out + x wᵀ for all steps, x as the operand lies. */
void recurrent_input_product(const struct recurrent *layer, const float *x, const float *w,
                             float beta, float *out);

enum {
    RECURRENT_X,
    RECURRENT_W,
    RECURRENT_R,
    RECURRENT_B,
    RECURRENT_LENGTHS,
    RECURRENT_HIDDEN,
    RECURRENT_CELL,
    RECURRENT_P
};

#endif
