/* Chains of element-wise operators against the same operators one after the other, bit for bit. */
#include "elementwise.h"

#include "net/ops/elementwise/elementwise.h"

static const struct net_operator *const families[] = {
    net_elementwise_operators, net_activation_operators, net_trigonometry_operators,
    net_arithmetic_operators, net_power_operators};

enum { FAMILIES = sizeof families / sizeof families[0], ROWS_MAX = 128 };

/* Every row that can be a link. */
static size_t list_rows(const struct net_operator **rows)
{
    size_t count = 0;
    for (size_t f = 0; f < FAMILIES; f++)
        for (const struct net_operator *row = families[f]; row->name; row++)
            if (row->unary || row->binary)
                rows[count++] = row;
    return count;
}

static void same_bits(const struct net_tensor *a, const struct net_tensor *b)
{
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++)
        if (!same_float(((const float *)a->data)[i], ((const float *)b->data)[i]))
            fail_msg("element %zu: %a instead of %a", i, (double)((const float *)a->data)[i],
                     (double)((const float *)b->data)[i]);
}

/* Whether the second is a bias of the first. */
static bool is_row(const struct pair *pair)
{
    return pair->rank[0] > 0 && pair->rank[1] == 1 &&
           pair->shape[0][pair->rank[0] - 1] == pair->shape[1][0];
}

/* Each row alone: its links compute what its forward does, for each input as the running value. */
static void links_do_what_forward_does(void **state)
{
    (void)state;
    const struct net_operator *rows[ROWS_MAX];
    size_t row_count = list_rows(rows);
    assert_true(row_count > 20);
    for (size_t r = 0; r < row_count; r++)
        for (size_t j = 0; j < PAIR_COUNT; j++) {
            struct trial trial;
            if (strcmp(rows[r]->name, "PRelu") == 0 && !pair_keeps_first(&pairs[j]))
                continue;
            if (strstr(rows[r]->name, "Gelu") && rows[r]->inputs_max == 2 && !is_row(&pairs[j]))
                continue;
            trial_begin_row(&trial, rows[r], 1);
            bool clip = rows[r]->inputs_max == 3;
            size_t inputs = rows[r]->unary || rows[r]->inputs_max == 1 ? 1 : 2;
            trial_floats(&trial, pairs[j].rank[0], pairs[j].shape[0], NULL, -2, 2);
            if (clip) {
                trial_floats(&trial, 0, NULL, (const float[]){-1}, 0, 0);
                trial_floats(&trial, 0, NULL, (const float[]){0.5F}, 0, 0);
            } else if (inputs == 2) {
                trial_floats(&trial, pairs[j].rank[1], pairs[j].shape[1], NULL, -2, 2);
            }
            assert_int_equal(trial_run(&trial, NULL), 0);
            struct net_tensor output = trial.outputs[0];
            assert_int_equal(net_tensor_allocate(&output, NULL), 0);
            for (size_t running = 0; running < inputs; running++) {
                struct net_chain_link links[2];
                int count = net_chain_links(&trial.call, running, links);
                bool whole = trial.inputs[running].count == output.count;
                bool second_of_clip = clip && running == 1;
                int expected = rows[r]->links ? 2 : 1;
                assert_int_equal(count, !whole || second_of_clip ? 0 : expected);
                if (!count)
                    continue;
                net_chain_run(&(struct net_chain){.input = &trial.inputs[running],
                                                  .output = &output,
                                                  .links = links,
                                                  .link_count = (size_t)count});
                same_bits(&output, &trial.outputs[0]);
            }
            free(output.data);
            trial_end(&trial);
        }
}

static void refuses_what_is_no_link(void **state)
{
    (void)state;
    struct net_chain_link links[2];
    struct trial trial;
    trial_begin(&trial, "Add", 1); /* integers */
    for (int i = 0; i < 2; i++)
        trial_integers(&trial, 1, (const int64_t[]){2}, (const int64_t[]){1, 2});
    assert_int_equal(trial_run(&trial, NULL), 0);
    assert_int_equal(net_chain_links(&trial.call, 0, links), 0);
    trial_end(&trial);

    trial_begin(&trial, "Mul", 1); /* x·x */
    trial_floats(&trial, 1, (const int64_t[]){2}, NULL, -1, 1);
    trial.input_list[trial.node.input_count++] = &trial.inputs[0];
    assert_int_equal(trial_run(&trial, NULL), 0);
    assert_int_equal(net_chain_links(&trial.call, 0, links), 0);
    assert_int_equal(net_chain_links(&trial.call, 1, links), 0);
    trial_end(&trial);

    trial_begin(&trial, "Pow", 1); /* an exponent of integers */
    trial_floats(&trial, 1, (const int64_t[]){2}, NULL, -1, 1);
    trial_integers(&trial, 1, (const int64_t[]){2}, (const int64_t[]){1, 2});
    assert_int_equal(trial_run(&trial, NULL), 0);
    assert_int_equal(net_chain_links(&trial.call, 0, links), 0);
    trial_end(&trial);

    trial_begin(&trial, "Max", 1); /* three inputs */
    for (int i = 0; i < 3; i++)
        trial_floats(&trial, 1, (const int64_t[]){2}, NULL, -1, 1);
    assert_int_equal(trial_run(&trial, NULL), 0);
    assert_int_equal(net_chain_links(&trial.call, 0, links), 0);
    trial_end(&trial);

    trial_begin(&trial, "Clip", 1); /* a bound that is left out */
    trial_floats(&trial, 1, (const int64_t[]){2}, NULL, -1, 1);
    trial_skip(&trial);
    trial_floats(&trial, 0, NULL, NULL, 0, 1);
    assert_int_equal(trial_run(&trial, NULL), 0);
    assert_int_equal(net_chain_links(&trial.call, 1, links), 0);
    assert_int_equal(net_chain_links(&trial.call, 0, links), 1);
    trial_end(&trial);

    trial_begin(&trial, "Where", 1);
    add_booleans(&trial, 0, NULL);
    trial_floats(&trial, 0, NULL, NULL, 0, 1);
    trial_floats(&trial, 0, NULL, NULL, 0, 1);
    assert_int_equal(trial_run(&trial, NULL), 0);
    assert_int_equal(net_chain_links(&trial.call, 1, links), 0);
    trial_end(&trial);
}

static float random_float(uint64_t *state)
{
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return (float)(*state >> 40) * 0x1p-22F - 2;
}

/* An operand of the output's shape, with any of its axes reduced to one element, and leading ones
   perhaps left out. An extent of 0 stays: others may be huge. */
static struct net_tensor random_operand(const struct net_tensor *output, uint64_t *state)
{
    int64_t shape[8] = {0};
    int skipped = 0;
    for (int i = 0; i < output->rank; i++)
        shape[i] = output->shape[i] && random_float(state) < 0 ? 1 : output->shape[i];
    while (skipped < output->rank && shape[skipped] == 1 && random_float(state) < 0)
        skipped++;
    struct net_tensor tensor = {0};
    assert_int_equal(
        net_tensor_set(&tensor, NET_FLOAT, output->rank - skipped, shape + skipped, NULL), 0);
    assert_int_equal(net_tensor_allocate(&tensor, NULL), 0);
    for (size_t i = 0; i < tensor.count; i++)
        ((float *)tensor.data)[i] = random_float(state);
    return tensor;
}

/* One link, by its kernel on whole tensors, with operands laid out element by element. */
static void run_link(const struct net_chain_link *link, struct net_tensor *value)
{
    float *expanded = calloc(value->count + 1, sizeof *expanded), *data = value->data;
    for (size_t i = 0; link->binary && i < value->count; i++)
        expanded[i] = ((const float *)link->operand->data)[element(link->operand, value, i)];
    for (size_t i = 0; i < value->count; i++) {
        if (!link->binary)
            link->unary(&data[i], &data[i], 1);
        else if (link->operand_first)
            link->binary(&data[i], &expanded[i], &data[i], 1);
        else
            link->binary(&data[i], &data[i], &expanded[i], 1);
    }
    free(expanded);
}

static const struct net_chain_link *random_links(struct net_chain_link *links, size_t count,
                                                 struct net_tensor *operands,
                                                 const struct net_tensor *output, uint64_t *state)
{
    const struct net_operator *rows[ROWS_MAX];
    size_t row_count = list_rows(rows);
    for (size_t i = 0; i < count; i++) {
        size_t choice = (size_t)((random_float(state) + 2) / 4 * (float)row_count);
        links[i] = (struct net_chain_link){.unary = rows[choice]->unary,
                                           .binary = rows[choice]->binary,
                                           .operand_first = random_float(state) < 0};
        if (links[i].binary) {
            operands[i] = random_operand(output, state);
            links[i].operand = &operands[i];
        }
    }
    return links;
}

/* Chains of 1 to 32 random links over random shapes; the output in memory of its own, the input's,
   or an operand's. */
static void runs_random_chains(void **state)
{
    (void)state;
    uint64_t random = 88172645463325252U;
    for (size_t run = 0; run < 600; run++) {
        const struct pair *pair = &pairs[run % PAIR_COUNT];
        struct net_tensor shape = {0}, a = {0}, b = {0}, output;
        net_tensor_set(&a, NET_FLOAT, pair->rank[0], pair->shape[0], NULL);
        net_tensor_set(&b, NET_FLOAT, pair->rank[1], pair->shape[1], NULL);
        int rank;
        assert_true(net_broadcast(&a, &b, &rank, shape.shape));
        assert_int_equal(net_tensor_set(&shape, NET_FLOAT, rank, shape.shape, NULL), 0);

        struct net_chain_link links[NET_CHAIN_LINKS_MAX];
        struct net_tensor operands[NET_CHAIN_LINKS_MAX] = {0};
        size_t count = run % 7 ? run % 6 + 1 : NET_CHAIN_LINKS_MAX;
        random_links(links, count, operands, &shape, &random);
        struct net_tensor input = random_operand(&shape, &random), reference = shape;
        assert_int_equal(net_tensor_allocate(&reference, NULL), 0);
        for (size_t i = 0; i < shape.count; i++)
            ((float *)reference.data)[i] = ((float *)input.data)[element(&input, &shape, i)];
        for (size_t i = 0; i < count; i++)
            run_link(&links[i], &reference);

        output = shape;
        assert_int_equal(net_tensor_allocate(&output, NULL), 0);
        void *own = output.data;
        if (run % 3 == 1 && input.count == shape.count)
            output.data = input.data;
        for (size_t i = 0; run % 3 == 2 && i < count; i++)
            if (links[i].binary && operands[i].count == shape.count)
                output.data = operands[i].data;
        net_chain_run(&(struct net_chain){
            .input = &input, .output = &output, .links = links, .link_count = count});
        same_bits(&output, &reference);
        free(own);
        free(input.data);
        free(reference.data);
        for (size_t i = 0; i < count; i++)
            free(operands[i].data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(links_do_what_forward_does),
        cmocka_unit_test(refuses_what_is_no_link),
        cmocka_unit_test(runs_random_chains),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
