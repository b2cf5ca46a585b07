#include "net/ops/elementwise/gate.h"

#include "core/dispatch.h"
#include "core/vector_math.h"
#include "net/ops/elementwise/blockwise.h"

/*
 * 1 + erf(x/√2) = erfc(a/√2) below 0 and 2 − erfc(a/√2) above, a = |x|, with erfc(a/√2) = e^P(a).
 * P is fitted to make the largest error of e^P least, 0.3 2^-24; e^P is 0 from 16 on. With the
 * roundings of P, which matter most where |P| e^P is largest, of vector_exp_negative and of the
 * difference, the error is below 3 2^-24.
 *
 * The nodes: √2 rounded and the quotient move erf by 1.3 2^-24 |t erf'(t)| < 0.7 2^-24, vector_erf
 * is within 1.5 2^-24 and the sum within 2^-24. Both are 7 2^-24 apart at most.
 */
static inline float normal_gate(float x)
{
    float a = vector_abs(x), square = a * a;
    float low = (-0x1.45f024p-2f * a - 0x1.98846cp-1f) +
                square * (0x1.40dcf2p-8f * a - 0x1.2a1646p-5f);
    float high = (-0x1.0ea57cp-13f * a - 0x1.8e140ap-14f) +
                 square * (-0x1.07c0bep-19f * a + 0x1.c9f178p-16f);
    float tail = vector_exp_negative(a * (low + square * square * high));
    tail = a > 16 ? 0 : tail;
    float above = 2 - tail;
    return x < 0 ? tail : above;
}

/*
 * 1 + tanh u = 2 σ(2u). Where u is rounded by 5 2^-24, in the nodes and here, either moves by
 * |u sech² u| 5 2^-24 < 2.3 2^-24. vector_tanh is within 2.5 2^-24, the sum within 2^-24; 2 σ is
 * within 2.5 units of 2^-23 at most. Both are 11 2^-24 apart at most.
 */
static inline float tanh_gate(float x)
{
    float root = 0x1.988454p-1f, cubic = 0x1.6e4e26p-5f;
    return 2 * vector_sigmoid(2 * root * (x + cubic * x * x * x));
}

IVON_DISPATCH static void normal_gates(float *out, const float *in, size_t count)
{
    BLOCK_EACH(count)
    {
        out[i] = normal_gate(in[i]);
    }
}

IVON_DISPATCH static void tanh_gates(float *out, const float *in, size_t count)
{
    BLOCK_EACH(count)
    {
        out[i] = tanh_gate(in[i]);
    }
}

const struct net_gate net_gates[] = {
    {normal_gates,
     3,
     {{"Div", NET_GATE_NUMBER, 0x1.6a09e6p+0f, false},
      {"Erf", NET_GATE_NONE, 0, false},
      {"Add", NET_GATE_NUMBER, 1, true}}},
    {normal_gates,
     3,
     {{"Mul", NET_GATE_NUMBER, 0x1.6a09e6p-1f, true},
      {"Erf", NET_GATE_NONE, 0, false},
      {"Add", NET_GATE_NUMBER, 1, true}}},
    {tanh_gates,
     6,
     {{"Pow", NET_GATE_NUMBER, 3, false},
      {"Mul", NET_GATE_NUMBER, 0x1.6e4e26p-5f, true},
      {"Add", NET_GATE_INPUT, 0, true},
      {"Mul", NET_GATE_NUMBER, 0x1.988454p-1f, true},
      {"Tanh", NET_GATE_NONE, 0, false},
      {"Add", NET_GATE_NUMBER, 1, true}}},
    {NULL, 0, {{NULL, NET_GATE_NONE, 0, false}}},
};
