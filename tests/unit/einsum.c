/* Einsum against a loop over all indices, of random equations; and hostile equations. */
#include <stdio.h>

#include "operator.h"

enum { LETTERS = 5, TERMS_MAX = 3, OPERAND_RANK = 3 };

struct random_equation {
    int operands, rank[TERMS_MAX + 1]; /* the output's is last */
    int letters[TERMS_MAX + 1][LETTERS];
    int64_t extent[LETTERS];
    char text[64];
};

static int pick(struct trial *trial, int low, int high)
{
    return low + (int)trial_random(trial, 0, (double)(high - low + 1) - 1e-3);
}

/* Letters of a term may be there twice, those of the output are there once. */
static void make_equation(struct trial *trial, struct random_equation *e)
{
    bool seen[LETTERS] = {false};
    char *at = e->text;
    e->operands = pick(trial, 1, TERMS_MAX);
    for (int i = 0; i < LETTERS; i++)
        e->extent[i] = pick(trial, 0, 20) ? pick(trial, 1, 4) : 0;
    for (int i = 0; i < e->operands; i++) {
        e->rank[i] = pick(trial, 0, OPERAND_RANK);
        for (int k = 0; k < e->rank[i]; k++) {
            e->letters[i][k] = pick(trial, 0, LETTERS - 1);
            seen[e->letters[i][k]] = true;
            *at++ = (char)('a' + e->letters[i][k]);
        }
        *at++ = ',';
    }
    at[-1] = '-';
    *at++ = '>';
    int *rank = &e->rank[e->operands], *letters = e->letters[e->operands];
    *rank = 0;
    for (int i = 0; i < LETTERS; i++)
        if (seen[i] && pick(trial, 0, 2)) {
            int other = pick(trial, 0, *rank);
            letters[*rank] = letters[other];
            letters[other] = i;
            ++*rank;
        }
    for (int k = 0; k < *rank; k++)
        *at++ = (char)('a' + letters[k]);
    *at = 0;
}

/* The element of a tensor at the index of every letter. */
static size_t place(const struct random_equation *e, int tensor, const int64_t *index)
{
    size_t at = 0;
    for (int k = 0; k < e->rank[tensor]; k++)
        at = at * (size_t)e->extent[e->letters[tensor][k]] + (size_t)index[e->letters[tensor][k]];
    return at;
}

static void reference(const struct random_equation *e, const struct trial *trial, double *y)
{
    bool used[LETTERS] = {false};
    int64_t index[LETTERS] = {0};
    for (int i = 0; i < e->operands; i++)
        for (int k = 0; k < e->rank[i]; k++) {
            used[e->letters[i][k]] = true;
            if (!e->extent[e->letters[i][k]])
                return;
        }
    for (int axis = 0; axis < LETTERS;) {
        double product = 1;
        for (int i = 0; i < e->operands; i++)
            product *= (double)((const float *)trial->inputs[i].data)[place(e, i, index)];
        y[place(e, e->operands, index)] += product;
        for (axis = 0; axis < LETTERS; axis++) {
            if (used[axis] && ++index[axis] < e->extent[axis])
                break;
            index[axis] = 0;
        }
    }
}

/*
 * Products of three uniform numbers have the size 3^(-3/2), and sums of at most 4^5 of them 6,
 * below 2^5 in all of these. BLAS adds in float: sums are right to a few times 2^-19. A difference
 * over a step of 2^-8 is off by as much over the step, 2^-11, and by step² times a sum of products
 * of three directions, 2^-11 again.
 */
static void random_equations(void **state)
{
    (void)state;
    struct trial random = {.state = 4711};
    for (int run = 0; run < 3000; run++) {
        struct random_equation e;
        struct trial trial;
        static double y[1024];
        memset(y, 0, sizeof y);
        make_equation(&random, &e);
        trial_begin(&trial, "Einsum", 1);
        trial.state += (uint64_t)run;
        trial_text(&trial, "equation", e.text);
        for (int i = 0; i < e.operands; i++) {
            int64_t shape[OPERAND_RANK];
            for (int k = 0; k < e.rank[i]; k++)
                shape[k] = e.extent[e.letters[i][k]];
            trial_floats(&trial, e.rank[i], shape, NULL, -1, 1);
        }
        assert_int_equal(trial_run(&trial, NULL), 0);
        reference(&e, &trial, y);
        const struct net_tensor *found = &trial.outputs[0];
        assert_int_equal(found->rank, e.rank[e.operands]);
        for (size_t i = 0; i < found->count; i++)
            if (!(fabs((double)((const float *)found->data)[i] - y[i]) <= 0x1p-14))
                fail_msg("'%s', element %zu: %g, expected %g", e.text, i,
                         (double)((const float *)found->data)[i], y[i]);
        trial_check_derivatives(&trial, 7, 0x1p-8, 0x1p-8, 0x1p-17);
        trial_end(&trial);
    }
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *equation, *message;
    } cases[] = {
        {"ij", "it has fewer terms than there are inputs"},
        {"ij,jk,kl", "expected one output at its end"},
        {"ij,jk->ik->", "expected one output at its end"},
        {"ij,jk->i-", "expected one output at its end"},
        {"ij,j1->i", "expected letters, and '...' at most once in a term"},
        {"ij,..j->i", "expected letters, and '...' at most once in a term"},
        {"......ij,jk->i", "expected letters, and '...' at most once in a term"},
        {"ijk,jk->i", "term 0 has 3 axes, input 0 is of shape 2x3"},
        {"ijk...,jk->i", "term 0 has 3 axes, input 0 is of shape 2x3"},
        {"i,jk->i", "term 0 has 1 axes, input 0 is of shape 2x3"},
        {"ij,ik->j", "axis 0 of input 1, of shape 3x4, should be 2"},
        {"ii,jk->k", "axis 0 of input 0, of shape 2x3, should be 3"},
        {"ij,jk->ii", "the output has an axis twice, or one of no input"},
        {"ij,jk->z", "the output has an axis twice, or one of no input"},
        {"", "term 0 has 0 axes, input 0 is of shape 2x3"},
        {"ijklmnopq,jk", "a term has too many axes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct trial trial;
        struct ivon_error error = {0};
        trial_begin(&trial, "Einsum", 1);
        trial_text(&trial, "equation", cases[i].equation);
        trial_floats(&trial, 2, (const int64_t[]){2, 3}, NULL, -1, 1);
        trial_floats(&trial, 2, (const int64_t[]){3, 4}, NULL, -1, 1);
        assert_int_equal(trial.node.op->infer(&trial.call, &error), IVON_ERROR_DATA);
        if (!strstr(error.message, cases[i].message))
            fail_msg("'%s': '%s'", cases[i].equation, error.message);
        trial_end(&trial);
    }
}

/* Tensors that would not fit memory: intermediate ones, and outputs. */
static void refuses_large_ones(void **state)
{
    (void)state;
    static const char *const equations[] = {"ab,cd,acd,bcd->", "ab,cd,acd,bcd->abcd"};
    static const int64_t wide[] = {1 << 14, 1 << 14, 1 << 14};
    for (size_t i = 0; i < 2; i++) {
        struct trial trial;
        struct ivon_error error = {0};
        trial_begin(&trial, "Einsum", 1);
        trial_text(&trial, "equation", equations[i]);
        for (int k = 0; k < 4; k++) {
            struct net_tensor *x = &trial.inputs[k];
            trial.input_list[trial.node.input_count++] = x;
            assert_int_equal(net_tensor_set(x, NET_FLOAT, k < 2 ? 2 : 3, wide, NULL), 0);
        }
        assert_int_equal(trial.node.op->infer(&trial.call, &error), IVON_ERROR_DATA);
        assert_non_null(strstr(error.message, "an intermediate tensor would have more than"));
        trial_end(&trial);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_equations),
                                       cmocka_unit_test(refuses),
                                       cmocka_unit_test(refuses_large_ones)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
