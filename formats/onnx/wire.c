#include "formats/onnx/wire.h"

#include <stdlib.h>
#include <string.h>

/* The lengths that protobuf-c's parser takes. */
enum { TAG_BYTES_MAX = 5, LENGTH_BYTES_MAX = 5, NUMBER_BYTES_MAX = 10 };

struct onnx_fields onnx_fields_of(struct onnx_span message)
{
    const uint8_t *end = message.size ? message.data + message.size : message.data;
    return (struct onnx_fields){.at = message.data, .end = end};
}

/* A number of 7 bits to a byte; false when it is cut off or longer than `most` bytes. */
static bool wire_read_number(struct onnx_fields *fields, int most, uint64_t *number)
{
    *number = 0;
    for (int i = 0; i < most && fields->at < fields->end; i++) {
        uint8_t byte = *fields->at++;
        *number |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (!(byte & 0x80))
            return true;
    }
    return false;
}

static bool wire_take(struct onnx_fields *fields, uint64_t size, struct onnx_span *bytes)
{
    if (size > (uint64_t)(fields->end - fields->at))
        return false;
    *bytes = (struct onnx_span){fields->at, (size_t)size};
    fields->at += size;
    return true;
}

static bool wire_read_field(struct onnx_fields *fields, struct onnx_field *field)
{
    uint64_t tag, length;
    *field = (struct onnx_field){0};
    if (!wire_read_number(fields, TAG_BYTES_MAX, &tag) || tag > UINT32_MAX || !(tag >> 3))
        return false;
    field->number = (uint32_t)(tag >> 3);
    field->kind = (enum onnx_wire_kind)(tag & 7);
    switch (tag & 7) {
    case ONNX_WIRE_NUMBER:
        return wire_read_number(fields, NUMBER_BYTES_MAX, &field->value);
    case ONNX_WIRE_EIGHT_BYTES:
        return wire_take(fields, 8, &field->bytes);
    case ONNX_WIRE_FOUR_BYTES:
        return wire_take(fields, 4, &field->bytes);
    case ONNX_WIRE_DELIMITED:
        return wire_read_number(fields, LENGTH_BYTES_MAX, &length) &&
               wire_take(fields, length, &field->bytes);
    default:
        return false;
    }
}

bool onnx_fields_next(struct onnx_fields *fields, struct onnx_field *field)
{
    const uint8_t *start = fields->at;
    if (start == fields->end)
        return false;
    fields->damaged = !wire_read_field(fields, field);
    field->whole = (struct onnx_span){start, (size_t)(fields->at - start)};
    return !fields->damaged;
}

bool onnx_field_is(const struct onnx_field *field, uint32_t number)
{
    return field->number == number && field->kind == ONNX_WIRE_DELIMITED;
}

bool onnx_span_equal(struct onnx_span a, struct onnx_span b)
{
    return a.size == b.size && (!a.size || memcmp(a.data, b.data, a.size) == 0);
}

bool onnx_span_is(struct onnx_span span, const char *text)
{
    return onnx_span_equal(span, (struct onnx_span){(const uint8_t *)text, strlen(text)});
}

int onnx_span_compare(struct onnx_span a, struct onnx_span b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common ? memcmp(a.data, b.data, common) : 0;
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

void onnx_buffer_append(struct onnx_buffer *buffer, const void *data, size_t size)
{
    if (buffer->exhausted || !size)
        return;
    if (size > buffer->capacity - buffer->size) {
        size_t most = PTRDIFF_MAX, needed;
        size_t larger = buffer->capacity < most / 2 ? 2 * buffer->capacity : most;
        buffer->exhausted = __builtin_add_overflow(buffer->size, size, &needed) || needed > most;
        if (!buffer->exhausted && larger < needed)
            larger = needed;
        uint8_t *grown = buffer->exhausted ? NULL : realloc(buffer->data, larger);
        buffer->exhausted = !grown;
        if (!grown)
            return;
        buffer->data = grown;
        buffer->capacity = larger;
    }
    memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
}

static void wire_append_number(struct onnx_buffer *buffer, uint64_t value)
{
    uint8_t bytes[NUMBER_BYTES_MAX];
    size_t count = 0;
    do {
        bytes[count++] = (uint8_t)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        value >>= 7;
    } while (value);
    onnx_buffer_append(buffer, bytes, count);
}

void onnx_buffer_number(struct onnx_buffer *buffer, uint32_t field, uint64_t value)
{
    wire_append_number(buffer, (uint64_t)field << 3 | ONNX_WIRE_NUMBER);
    wire_append_number(buffer, value);
}

void onnx_buffer_head(struct onnx_buffer *buffer, uint32_t field, uint64_t size)
{
    wire_append_number(buffer, (uint64_t)field << 3 | ONNX_WIRE_DELIMITED);
    wire_append_number(buffer, size);
}

void onnx_buffer_bytes(struct onnx_buffer *buffer, uint32_t field, const void *data, size_t size)
{
    onnx_buffer_head(buffer, field, size);
    onnx_buffer_append(buffer, data, size);
}

void onnx_buffer_message(struct onnx_buffer *buffer, uint32_t field, struct onnx_buffer *message)
{
    buffer->exhausted |= message->exhausted;
    onnx_buffer_bytes(buffer, field, message->data, message->size);
    free(message->data);
    *message = (struct onnx_buffer){0};
}
