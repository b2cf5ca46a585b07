/* The pickle machine: what Python writes is read, nothing is called, limits hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "formats/torch/pickle.h"

#define BYTES(literal) (const unsigned char *)(literal), sizeof(literal) - 1

static struct pickle *parse(const unsigned char *data, size_t size)
{
    struct pickle *pickle = NULL;
    struct ivon_error error = {.message = "none"};
    if (pickle_parse(&pickle, "p", data, size, &error))
        fail_msg("%s", error.message);
    assert_non_null(pickle_root(pickle));
    return pickle;
}

static void refused(const unsigned char *data, size_t size, const char *message)
{
    struct pickle *pickle = NULL;
    struct ivon_error error = {.message = "none"};
    int code = pickle_parse(&pickle, "p", data, size, &error);
    if (code != IVON_ERROR_DATA || !strstr(error.message, message))
        fail_msg("%d '%s', expected '%s'", code, error.message, message);
    assert_null(pickle);
}

static void test_plain_values(void **state)
{
    (void)state;
    /* [None, True, 1, 300, -2, 2**40, -1, 0.5, 'a', b'b', 2**100] */
    struct pickle *pickle = parse(
        BYTES("\x80\x02](N\x88K\x01M\x2c\x01J\xfe\xff\xff\xff\x8a\x06\x00\x00\x00\x00\x00\x01"
              "\x8a\x01\xffG\x3f\xe0\x00\x00\x00\x00\x00\x00X\x01\x00\x00\x00"
              "aC\x01"
              "b\x8a\x0d\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10\x8a\x00"
              "e."));
    const struct pickle_node *list = pickle_root(pickle);
    char text[PICKLE_DESCRIPTION];
    assert_int_equal(list->kind, PICKLE_LIST);
    assert_int_equal(list->count, 12);
    assert_int_equal(list->items[0]->kind, PICKLE_NONE);
    assert_int_equal(list->items[1]->kind, PICKLE_BOOL);
    static const int64_t integers[] = {1, 1, 300, -2, INT64_C(1) << 40, -1};
    for (size_t i = 1; i < 7; i++)
        assert_int_equal(list->items[i]->integer, integers[i - 1]);
    assert_true(list->items[7]->kind == PICKLE_FLOAT && list->items[7]->number == 0.5);
    assert_true(pickle_is_string(list->items[8], "a"));
    assert_int_equal(list->items[9]->kind, PICKLE_BYTES);
    assert_string_equal(pickle_describe(list->items[10], text), "an object of 'builtins.int'");
    assert_int_equal(list->items[11]->integer, 0);
    pickle_free(pickle);
}

/* What protocols 3 to 5 add: pickle.dumps({'a': {1}, 'b': frozenset({2}), 'c': (1, 2)}, 4). */
static void test_later_protocols(void **state)
{
    (void)state;
    struct pickle *pickle = parse(BYTES("\x80\x04\x95\x22\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01"
                                        "a\x94\x8f\x94(K\x01\x90"
                                        "\x8c\x01"
                                        "b\x94(K\x02\x91\x94\x8c\x01"
                                        "c\x94K\x01K\x02\x86\x94u."));
    const struct pickle_node *root = pickle_root(pickle);
    assert_int_equal(root->kind, PICKLE_DICT);
    assert_int_equal(pickle_get(root, "a")->kind, PICKLE_SET);
    assert_int_equal(pickle_get(root, "b")->kind, PICKLE_SET);
    assert_int_equal(pickle_get(root, "c")->kind, PICKLE_TUPLE);
    pickle_free(pickle);
}

static void test_memo_shares_nodes(void **state)
{
    (void)state;
    struct pickle *pickle = parse(BYTES("\x80\x02](]q\x01h\x01j\x01\x00\x00\x00"
                                        "e."));
    const struct pickle_node *root = pickle_root(pickle);
    assert_int_equal(root->count, 3);
    assert_ptr_equal(root->items[0], root->items[1]);
    assert_ptr_equal(root->items[0], root->items[2]);
    pickle_free(pickle);
}

static void test_last_value_of_a_key_holds(void **state)
{
    (void)state;
    struct pickle *pickle = parse(BYTES("}(U\x01kK\x01U\x01kK\x02u."));
    assert_int_equal(pickle_get(pickle_root(pickle), "k")->integer, 2);
    assert_null(pickle_get(pickle_root(pickle), "other"));
    assert_null(pickle_get(NULL, "k"));
    pickle_free(pickle);
}

/* os.system('x') by each way to call it. */
static void test_calls_are_inert(void **state)
{
    (void)state;
    static const char *const pickles[] = {
        "cos\nsystem\nU\x01x\x85R.",
        "cos\nsystem\nU\x01x\x85\x81.",
        "cos\nsystem\nU\x01x\x85}\x92.",
        "U\x02osU\x06system\x93U\x01x\x85R.",
        "cos\nsystem\nU\x01x\x85R}U\x01kK\x01sb.",
        "cos\nsystem\nU\x01x\x85RU\x01yK\x01s.",
        "cos\nsystem\nU\x01x\x85R(K\x01"
        "e.",
        "cos\nsystem\nU\x01x\x85R)R.",
        "ccopyreg\n_reconstructor\ncos\nsystem\nN\x86R.",
    };
    for (size_t i = 0; i < sizeof pickles / sizeof pickles[0]; i++) {
        char text[PICKLE_DESCRIPTION];
        struct pickle *pickle = parse((const unsigned char *)pickles[i], strlen(pickles[i]));
        assert_int_equal(pickle_root(pickle)->kind, PICKLE_OBJECT);
        assert_string_equal(pickle_describe(pickle_root(pickle), text), "an object of 'os.system'");
        assert_null(pickle_mapping(pickle_root(pickle)));
        pickle_free(pickle);
    }
}

static void test_dictionaries_of_the_library(void **state)
{
    (void)state;
    struct pickle *pickle = parse(BYTES("ccollections\nOrderedDict\n)RU\x01kK\x01s"
                                        "}U\x09_metadataNsb."));
    assert_int_equal(pickle_get(pickle_root(pickle), "k")->integer, 1);
    pickle_free(pickle);
    pickle = parse(BYTES("cargparse\nNamespace\n)\x81}U\x01kK\x01sb."));
    assert_int_equal(pickle_get(pickle_mapping(pickle_root(pickle)), "k")->integer, 1);
    pickle_free(pickle);
    pickle = parse(BYTES("cargparse\nOther\n)\x81}U\x01kK\x01sb."));
    assert_null(pickle_mapping(pickle_root(pickle)));
    pickle_free(pickle);
}

static void test_damage_is_named(void **state)
{
    (void)state;
    refused(BYTES(""), "it has no end");
    refused(BYTES("\x80\x02}"), "it has no end");
    refused(BYTES("\xff"), "byte 0: there is no opcode 0xff");
    refused(BYTES("}i"), "byte 1 of its pickle: opcode INST (0x69) is not read here");
    refused(BYTES("\x80\x06"), "PROTO: its protocol is higher than 5");
    refused(BYTES("."), "byte 0, STOP: the stack is empty");
    refused(BYTES("(t(."), "STOP: the stack is empty");
    refused(BYTES("t"), "TUPLE: there is no mark");
    refused(BYTES("K\x01\x86"), "TUPLE2: the stack is empty");
    refused(BYTES("K\x01(\x85"), "TUPLE1: the stack is empty");
    refused(BYTES("M\x01"), "BININT2: the pickle ends here");
    refused(BYTES("X\x05\x00\x00\x00"
                  "abc"),
            "BINUNICODE: its length exceeds the pickle's");
    refused(BYTES("X\xff\xff\xff\xff"
                  "abc"),
            "BINUNICODE: its length exceeds 256 MiB");
    refused(BYTES("\x8d\xff\xff\xff\xff\xff\xff\xff\xff"), "BINUNICODE8: its length exceeds");
    refused(BYTES("cos"), "GLOBAL: the pickle ends here");
    refused(BYTES("cos\nsystem"), "GLOBAL: the pickle ends here");
    refused(BYTES("K\x01K\x02\x93"), "STACK_GLOBAL: a name is no string");
    refused(BYTES("h\x00"), "BINGET: its memo index was never set");
    refused(BYTES("Nr\xff\xff\xff\xff."), "LONG_BINPUT: its memo index exceeds the pickle's");
    refused(BYTES("}(K\x01u"), "SETITEMS: a key has no value");
    refused(BYTES("]K\x01K\x02s"), "SETITEM: what it adds to is no such container");
    refused(BYTES("(K\x01"
                  "e"),
            "APPENDS: the stack is empty");
    refused(BYTES("NNR"), "REDUCE: the arguments are no tuple");
}

static void test_every_prefix_is_refused(void **state)
{
    (void)state;
    static const unsigned char whole[] = "\x80\x02}q\x00(X\x01\x00\x00\x00"
                                         "aq\x01"
                                         "ccollections\nOrderedDict\nq\x02)Rq\x03(U\x01"
                                         "bG\x3f\xe0\x00\x00\x00\x00\x00\x00uX\x01\x00\x00\x00"
                                         "cK\x01K\x02\x86Qu.";
    size_t size = sizeof whole - 1;
    pickle_free(parse(whole, size));
    for (size_t cut = 0; cut < size; cut++) {
        unsigned char *copy = malloc(cut + 1); /* exactly, for the sanitizer */
        memcpy(copy, whole, cut);
        refused(copy, cut, "");
        free(copy);
    }
}

static unsigned char *repeat(const char *unit, size_t size, size_t count, size_t extra)
{
    unsigned char *bytes = malloc(size * count + extra);
    assert_non_null(bytes);
    for (size_t i = 0; i < count; i++)
        memcpy(bytes + i * size, unit, size);
    return bytes;
}

static void test_limits(void **state)
{
    (void)state;
    enum { DEEP = PICKLE_NESTING_MAX + 2 };
    unsigned char *bytes = repeat("(", 1, DEEP, 0);
    refused(bytes, DEEP, "MARK: it nests deeper than 1000");
    free(bytes);
    bytes = repeat("\x85", 1, DEEP, 0);
    bytes[0] = ')';
    refused(bytes, DEEP, "TUPLE1: it nests deeper than 1000");
    free(bytes);
    bytes = repeat("N", 1, PICKLE_NODES_MAX + 1, 0);
    refused(bytes, PICKLE_NODES_MAX + 1, "NONE: there are more than 4194304 objects");
    free(bytes);
    bytes = repeat("m", 1, PICKLE_NAME_MAX + 5, 0);
    bytes[0] = 'c';
    bytes[PICKLE_NAME_MAX + 2] = bytes[PICKLE_NAME_MAX + 4] = '\n';
    refused(bytes, PICKLE_NAME_MAX + 5, "GLOBAL: its name exceeds 1024 bytes");
    free(bytes);
}

/* Each tuple holds the one before it twice: 2^900 leaves, but 900 nodes. A list holds itself. */
static void test_shared_nodes_stay_shared(void **state)
{
    (void)state;
    enum { LEVELS = 900, UNIT = 5 };
    unsigned char *bytes = repeat("\x86q\x00h\x00", UNIT, LEVELS, 1);
    memcpy(bytes, "]q\x00h\x00", UNIT);
    bytes[UNIT * LEVELS] = '.';
    struct pickle *pickle = parse(bytes, UNIT * LEVELS + 1);
    pickle_free(pickle);
    free(bytes);
    pickle = parse(BYTES("]q\x00h\x00"
                         "a."));
    assert_ptr_equal(pickle_root(pickle)->items[0], pickle_root(pickle));
    pickle_free(pickle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_values),
        cmocka_unit_test(test_later_protocols),
        cmocka_unit_test(test_memo_shares_nodes),
        cmocka_unit_test(test_last_value_of_a_key_holds),
        cmocka_unit_test(test_calls_are_inert),
        cmocka_unit_test(test_dictionaries_of_the_library),
        cmocka_unit_test(test_damage_is_named),
        cmocka_unit_test(test_every_prefix_is_refused),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_shared_nodes_stay_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
