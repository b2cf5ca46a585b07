/* Protocol buffers as bytes: fields are read where they lie, and appended to a buffer. */
#ifndef FORMATS_ONNX_WIRE_H
#define FORMATS_ONNX_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that are another's: a name, a message. */
struct onnx_span {
    const uint8_t *data;
    size_t size;
};

enum onnx_wire_kind {
    ONNX_WIRE_NUMBER = 0,
    ONNX_WIRE_EIGHT_BYTES = 1,
    ONNX_WIRE_DELIMITED = 2,
    ONNX_WIRE_FOUR_BYTES = 5
};

struct onnx_field {
    uint32_t number;
    enum onnx_wire_kind kind;
    uint64_t value;         /* of a number */
    struct onnx_span bytes; /* of what is no number */
    struct onnx_span whole; /* with its tag and its length */
};

/* The fields of a message that are left. */
struct onnx_fields {
    const uint8_t *at, *end;
    bool damaged; /* the next field is cut off, or of no known kind */
};

struct onnx_fields onnx_fields_of(struct onnx_span message);

/* Takes the next field; false at the end, and where it is damaged. */
bool onnx_fields_next(struct onnx_fields *fields, struct onnx_field *field);

/* Returns whether a field is delimited and has that number. */
bool onnx_field_is(const struct onnx_field *field, uint32_t number);

bool onnx_span_equal(struct onnx_span a, struct onnx_span b);
bool onnx_span_is(struct onnx_span span, const char *text);

/* Orders spans by their bytes, as strings are ordered. */
int onnx_span_compare(struct onnx_span a, struct onnx_span b);

/* A buffer that grows. Zero-initialised, it is empty; its data are freed by free(). What is
   appended after memory was exhausted is dropped. */
struct onnx_buffer {
    uint8_t *data;
    size_t size, capacity;
    bool exhausted;
};

void onnx_buffer_append(struct onnx_buffer *buffer, const void *data, size_t size);
void onnx_buffer_number(struct onnx_buffer *buffer, uint32_t field, uint64_t value);
void onnx_buffer_bytes(struct onnx_buffer *buffer, uint32_t field, const void *data, size_t size);

/* Appends the tag and the length of a delimited field, whose bytes follow. */
void onnx_buffer_head(struct onnx_buffer *buffer, uint32_t field, uint64_t size);

/* Appends a buffer as a delimited field, and frees it. */
void onnx_buffer_message(struct onnx_buffer *buffer, uint32_t field, struct onnx_buffer *message);

#endif
