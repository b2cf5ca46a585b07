#include "ivon/train.h"

const struct ivon_method_traits *ivon_method_traits(enum ivon_method method)
{
    static const struct ivon_method_traits traits[] = {
        [IVON_METHOD_IVON] = {.name = "ivon", .posterior = true},
        [IVON_METHOD_ADAMW] = {.name = "adamw"},
        [IVON_METHOD_SGD] = {.name = "sgd"},
        [IVON_METHOD_EVON] = {.name = "evon", .posterior = true, .bases = true},
        [IVON_METHOD_SOAP] = {.name = "soap", .bases = true},
        [IVON_METHOD_BBB] = {.name = "bbb", .posterior = true}};
    return (size_t)method < sizeof traits / sizeof *traits ? &traits[method] : NULL;
}
