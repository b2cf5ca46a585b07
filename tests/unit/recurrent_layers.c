/* LSTM, GRU and RNN alone: widths that do not fill a panel, long sequences, ends of sequences, and
   what is refused. */
#include "operator.h"

static const char *const names[] = {"RNN", "GRU", "LSTM"};
static const int64_t gate_counts[] = {1, 3, 4};

struct layer {
    int64_t steps, batch, input, hidden, directions;
};

static void begin(struct trial *trial, size_t kind, struct layer layer, const int64_t *lengths)
{
    int64_t gates = gate_counts[kind] * layer.hidden;
    trial_begin(trial, names[kind], kind == 2 ? 3 : 2);
    trial_floats(trial, 3, (const int64_t[]){layer.steps, layer.batch, layer.input}, NULL, -1, 1);
    trial_floats(trial, 3, (const int64_t[]){layer.directions, gates, layer.input}, NULL, -0.3,
                 0.3);
    trial_floats(trial, 3, (const int64_t[]){layer.directions, gates, layer.hidden}, NULL, -0.3,
                 0.3);
    trial_floats(trial, 2, (const int64_t[]){layer.directions, 2 * gates}, NULL, -1, 1);
    if (lengths)
        trial_integers(trial, 1, &layer.batch, lengths);
    else
        trial_skip(trial);
    trial_floats(trial, 3, (const int64_t[]){layer.directions, layer.batch, layer.hidden}, NULL, -1,
                 1);
    if (layer.directions == 2)
        trial_text(trial, "direction", "bidirectional");
}

/*
 * With steps of 2^-7 in directions of up to 1, differences are right to rounding of outputs of size
 * 1 after sums of up to 70 terms, 16·2^-24 over the step, and to its square; the identity to
 * rounding of long sums.
 */
static void widths(void **state)
{
    (void)state;
    static const int64_t widths[] = {1, 15, 16, 17, 64, 65};
    for (size_t kind = 0; kind < 3; kind++)
        for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++)
            for (int after = 0; after < (kind == 1 ? 2 : 1); after++) {
                struct trial trial;
                struct layer layer = {3, 7, 2, widths[i], 1 + (int64_t)i % 2};
                begin(&trial, kind, layer, NULL);
                if (after)
                    trial_int(&trial, "linear_before_reset", 1);
                assert_int_equal(trial_run(&trial, NULL), 0);
                for (size_t output = 0; output < trial.node.output_count; output++)
                    trial_check_output_derivatives(&trial, output, 63, 0x1p-9, 0x1p-8, 0x1p-17);
                trial_end(&trial);
            }
}

/* Each sequence of a batch is what it is alone: at its end, behind it, and where it has none. */
static void ends_of_sequences(void **state)
{
    (void)state;
    static const int64_t lengths[] = {5, 0, 3, 1, 9, -2};
    for (size_t kind = 0; kind < 3; kind++) {
        struct trial trial, alone;
        struct layer layer = {5, 6, 3, 4, 2};
        begin(&trial, kind, layer, lengths);
        assert_int_equal(trial_run(&trial, NULL), 0);
        const float *y = trial.outputs[0].data, *h = trial.outputs[1].data;
        for (int64_t b = 0; b < layer.batch; b++) {
            struct layer one = {layer.steps, 1, layer.input, layer.hidden, 2};
            int64_t end = lengths[b] < 0 ? 0 : lengths[b] < 5 ? lengths[b] : 5;
            one.steps = end;
            begin(&alone, kind, one, NULL);
            for (size_t i = 1; i < 4; i++)
                memcpy(alone.inputs[i].data, trial.inputs[i].data,
                       alone.inputs[i].count * sizeof(float));
            for (int64_t t = 0; t < end; t++)
                memcpy((float *)alone.inputs[0].data + t * 3,
                       (float *)trial.inputs[0].data + (t * layer.batch + b) * 3,
                       3 * sizeof(float));
            for (int64_t d = 0; d < 2; d++)
                memcpy((float *)alone.inputs[5].data + d * 4,
                       (float *)trial.inputs[5].data + (d * layer.batch + b) * 4,
                       4 * sizeof(float));
            assert_int_equal(trial_run(&alone, NULL), 0);
            for (int64_t d = 0; d < 2; d++)
                for (int64_t i = 0; i < 4; i++) {
                    for (int64_t t = 0; t < layer.steps; t++) {
                        double expected =
                            t < end ? (double)((float *)alone.outputs[0].data)[(t * 2 + d) * 4 + i]
                                    : 0;
                        double found = (double)y[((t * 2 + d) * layer.batch + b) * 4 + i];
                        assert_true(fabs(found - expected) <= 0x1p-20);
                    }
                    double last = (double)((float *)alone.outputs[1].data)[d * 4 + i];
                    assert_true(fabs((double)h[(d * layer.batch + b) * 4 + i] - last) <= 0x1p-20);
                }
            trial_end(&alone);
        }
        trial_end(&trial);
    }
}

/* Without steps or sequences the states stay, and nothing else is there. */
static void nothing(void **state)
{
    (void)state;
    static const struct layer layers[] = {{0, 2, 3, 4, 2}, {3, 0, 3, 4, 1}, {2, 2, 0, 3, 1}};
    for (size_t kind = 0; kind < 3; kind++)
        for (size_t i = 0; i < 3; i++) {
            struct trial trial;
            begin(&trial, kind, layers[i], NULL);
            assert_int_equal(trial_run(&trial, NULL), 0);
            if (layers[i].steps == 0)
                assert_memory_equal(trial.outputs[1].data, trial.inputs[5].data,
                                    trial.outputs[1].count * sizeof(float));
            for (size_t output = 0; output < 2; output++)
                trial_check_output_derivatives(&trial, output, 63, 0x1p-9, 0x1p-8, 0x1p-17);
            trial_end(&trial);
        }
}

static void refuse(struct trial *trial, const char *expected)
{
    struct ivon_error error = {0};
    assert_int_equal(trial->node.op->infer(&trial->call, &error), IVON_ERROR_DATA);
    if (!strstr(error.message, expected))
        fail_msg("'%s' does not hold '%s'", error.message, expected);
    trial_end(trial);
}

static void refuses(void **state)
{
    (void)state;
    struct trial trial;
    struct layer layer = {2, 2, 3, 4, 1};
    begin(&trial, 2, layer, NULL);
    trial_text(&trial, "direction", "both");
    refuse(&trial, "direction is 'both', expected forward");
    begin(&trial, 2, layer, NULL);
    trial_int(&trial, "hidden_size", 5);
    refuse(&trial, "hidden_size 5");
    begin(&trial, 2, layer, NULL);
    trial_number(&trial, "clip", -1);
    refuse(&trial, "clip is -1, expected a positive number");
    begin(&trial, 2, layer, NULL);
    struct net_attribute *names_given = trial_attribute(&trial, "activations", NET_TEXTS);
    names_given->text = (char *)"Tanh\0Tanh\0";
    names_given->count = 2;
    refuse(&trial, "2 activations, expected 3");
    begin(&trial, 0, layer, NULL);
    names_given = trial_attribute(&trial, "activations", NET_TEXTS);
    names_given->text = (char *)"Sine\0";
    names_given->count = 1;
    refuse(&trial, "the activation 'Sine' is not known");
    for (size_t input = 1; input < 6; input++) {
        if (input == 4)
            continue;
        begin(&trial, 1, layer, NULL);
        trial.inputs[input].shape[1]++;
        refuse(&trial, "expected float and ");
    }
    begin(&trial, 1, layer, (const int64_t[]){1, 1});
    trial.inputs[4].shape[0] = 3;
    refuse(&trial, "input 4 of type integer and shape 3, expected integer and 2");
    begin(&trial, 1, layer, NULL);
    trial.inputs[0].rank = 2;
    refuse(&trial, "expected three axes");
    begin(&trial, 1, layer, NULL);
    trial.inputs[0].type = NET_INTEGER;
    refuse(&trial, "input 0 is of type integer");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(widths),
        cmocka_unit_test(ends_of_sequences),
        cmocka_unit_test(nothing),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
