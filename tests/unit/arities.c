/* The numbers of inputs and outputs that operators have, and the opsets that brought them and their
   attributes, against ONNX's schemas. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "net/graph/operator.h"

static const struct {
    const char *name;
    int first, last, inputs_min, inputs_max, outputs_max, since;
    struct {
        const char *name;
        int since;
    } later[8]; /* attributes */
} schemas[] = {
#include "arities_fixture.h"
};

enum { SCHEMAS = sizeof schemas / sizeof schemas[0], SCHEMAS_LAST = 17 /* their opset */ };

static void arities(void **state)
{
    (void)state;
    for (size_t i = 0; i < SCHEMAS; i++) {
        const struct net_operator *op = net_operator_find(NULL, schemas[i].name, schemas[i].last);
        assert_non_null(op);
        if (op->inputs_min != schemas[i].inputs_min || op->inputs_max != schemas[i].inputs_max ||
            op->outputs_max != schemas[i].outputs_max)
            fail_msg("%s: %d to %d inputs, up to %d outputs, ONNX has %d to %d, and %d", op->name,
                     op->inputs_min, op->inputs_max, op->outputs_max, schemas[i].inputs_min,
                     schemas[i].inputs_max, schemas[i].outputs_max);
    }
}

/* The opset of an attribute that a later one than the operator's brought; 0: it is none. */
static int later_in_row(const struct net_operator *op, const char *attribute)
{
    for (size_t i = 0; i < NET_OPERATOR_LATER_MAX && op->later[i].name; i++)
        if (strcmp(op->later[i].name, attribute) == 0)
            return op->later[i].since;
    return 0;
}

static int later_in_schema(size_t schema, const char *attribute)
{
    for (size_t i = 0; i < 8 && schemas[schema].later[i].name; i++)
        if (strcmp(schemas[schema].later[i].name, attribute) == 0)
            return schemas[schema].later[i].since;
    return 0;
}

static void opsets(void **state)
{
    (void)state;
    for (size_t i = 0; i < SCHEMAS; i++) {
        const struct net_operator *op = net_operator_find(NULL, schemas[i].name, schemas[i].last);
        assert_non_null(op);
        if (op->since != schemas[i].since)
            fail_msg("%s: since opset %d, ONNX has it since %d", op->name, op->since,
                     schemas[i].since);
        assert_ptr_equal(op, net_operator_find(NULL, schemas[i].name, schemas[i].first));
        for (size_t j = 0; j < NET_OPERATOR_ATTRIBUTES_MAX && op->attributes[j].name; j++) {
            const char *attribute = op->attributes[j].name;
            int found = later_in_row(op, attribute), since = later_in_schema(i, attribute);
            if (found > schemas[i].last) /* the schemas end before */
                continue;
            if (found != since)
                fail_msg("%s: attribute '%s' since opset %d, ONNX has it since %d", op->name,
                         attribute, found, since);
        }
    }
}

/* Every version of an operator that the schemas know is here. */
static void all_are_compared(void **state)
{
    (void)state;
    const struct net_operator *row;
    size_t count = 0;
    for (size_t at = 0; (row = net_operator_row(at)); at++) {
        if (row->domain || row->since > SCHEMAS_LAST)
            continue;
        size_t i = 0;
        while (i < SCHEMAS && net_operator_find(NULL, schemas[i].name, schemas[i].last) != row)
            i++;
        if (i == SCHEMAS)
            fail_msg("%s-%d is not in arities_fixture.h: see tests/oracle/onnx_arities.py",
                     row->name, row->since);
        count++;
    }
    assert_int_equal(count, SCHEMAS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(arities), cmocka_unit_test(opsets),
                                       cmocka_unit_test(all_are_compared)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
