/* Fields of ONNX's messages, as the parser leaves them. */
#include <string.h>

#include "formats/onnx/private.h"

const char *onnx_text(const char *string)
{
    return string ? string : "";
}

bool onnx_own_domain(const char *domain)
{
    return !*onnx_text(domain) || strcmp(domain, "ai.onnx") == 0;
}

struct onnx_span onnx_unknown_field(const ProtobufCMessage *message, unsigned field)
{
    struct onnx_span found = {0};
    for (unsigned i = 0; i < message->n_unknown_fields; i++) {
        const ProtobufCMessageUnknownField *unknown = &message->unknown_fields[i];
        if (unknown->tag != field || unknown->wire_type != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED)
            continue;
        size_t prefix = 0; /* the parser keeps the length before the bytes */
        while (prefix < unknown->len && unknown->data[prefix] & 0x80)
            prefix++;
        if (prefix < unknown->len)
            found = (struct onnx_span){unknown->data + prefix + 1, unknown->len - prefix - 1};
    }
    return found;
}
