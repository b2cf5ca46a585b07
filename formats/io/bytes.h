/*
 * A run of bytes that lies in memory as it is, or has to be inflated (RFC 1951, 1952). Inflating
 * is sequential and takes the same little memory whatever comes out: reading in rising order is
 * fast, going back starts again from the beginning.
 */
#ifndef FORMATS_IO_BYTES_H
#define FORMATS_IO_BYTES_H

#include <stddef.h>
#include <stdint.h>

#include "formats/io/mapped.h"

enum { DEFLATE_EXPANSION = 1032 }; /* at most, as 258 bytes come from no fewer than 2 bits */

enum bytes_coding {
    BYTES_STORED,
    BYTES_DEFLATED, /* without any wrapping, as in zip */
    BYTES_GZIPPED,  /* one member or several */
};

struct bytes_origin {
    const char *name;               /* for messages; copied */
    const struct mapped_file *file; /* that the data lie in; pages that were read leave memory */
    const unsigned char *data;
    uint64_t data_size;
    enum bytes_coding coding;
    uint64_t size; /* of a deflated run: of what comes out */
    uint32_t crc;  /* of a deflated run: its CRC-32 */
};

struct bytes;

/* Borrows the file and the data. */
int bytes_open(struct bytes **bytes, const struct bytes_origin *origin, struct ivon_error *error);
void bytes_close(struct bytes *bytes);

const char *bytes_name(const struct bytes *bytes);

/* How many bytes there are; of a gzipped run, which does not say so, how many there may be. */
uint64_t bytes_size(const struct bytes *bytes);

/* The size of a run by its contents: reading the last byte checks that it is the last. */
int bytes_expect(struct bytes *bytes, uint64_t size, struct ivon_error *error);

/* The bytes themselves, or null when they have to be inflated. */
const unsigned char *bytes_view(const struct bytes *bytes);

/* Lets the pages of a run that is not inflated leave memory, after it was read by its view. */
void bytes_let_go(const struct bytes *bytes);

/* Bytes [offset, offset + size). Fails when there are not as many. */
int bytes_read(struct bytes *bytes, uint64_t offset, size_t size, void *out,
               struct ivon_error *error);

#endif
