/*
 * Records of a long run, kept so that it can be resumed: a file that grows by records of one size,
 * each with a checksum. A killed run leaves whole records, and at most the beginning of one.
 *
 * The file begins with a header of 62 ASCII bytes, three lines:
 *     ivon-records 1               the format's version
 *     run 0123456789abcdef         the first 64 bits of the SHA-256 of what describes the run
 *     size 00000000000000001024    of a record's content, in bytes
 * After it each record is its content and a CRC-32, as zlib's, in little-endian order: of the
 * header, the record's number from 0 (8 bytes, little-endian) and the content. The contents are in
 * whatever form the caller gives them.
 */
#ifndef IVON_RECORDS_H
#define IVON_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ivon/api.h"
#include "ivon/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ivon_records_options {
    size_t size; /* sizeof this struct: set by ivon_records_defaults() */
    /* All that the records depend on, options and inputs, as bytes: runs that differ in them cannot
       resume each other. */
    const void *run;
    size_t run_size;
    size_t record_size;  /* from 1 to 2^30 bytes */
    bool resume;         /* take up the records of a file that exists, which else are dropped */
    double sync_seconds; /* append makes records durable when so long has passed; 0: each time;
                            negative: never, as a killed process loses nothing that was appended */
};

/* Only the size is set. */
IVON_API void ivon_records_options_init(struct ivon_records_options *options, size_t size);
static inline struct ivon_records_options ivon_records_defaults(void)
{
    struct ivon_records_options options;
    ivon_records_options_init(&options, sizeof options);
    return options;
}

struct ivon_records;

/*
 * Opens or creates the file, and locks it against other runs until it is closed. With `resume`,
 * hands each whole record that it holds to `on_record`, in the order in which they were appended,
 * and cuts off what follows the last: a record that is torn or damaged, and all after it.
 * `on_record` stops by a value other than 0, which is returned; the file is then as it was.
 *
 * Fails with IVON_ERROR_CREATE where the file cannot be created or another run has it, with
 * IVON_ERROR_DATA where it is of other options or inputs (`resume`), or is no file of records at
 * all, which is never overwritten. An empty file, or one with the beginning of this run's header,
 * is as one without records.
 */
IVON_API int ivon_records_open(struct ivon_records **records, const char *path,
                               const struct ivon_records_options *options,
                               int (*on_record)(void *context, const void *record,
                                                struct ivon_error *error),
                               void *context, struct ivon_error *error);

/* How many records the file holds. */
IVON_API uint64_t ivon_records_count(const struct ivon_records *records);

/* Appends one. One that could not be written whole is none: it may be appended again. */
IVON_API int ivon_records_append(struct ivon_records *records, const void *record,
                                 struct ivon_error *error);

/* Makes the records durable and closes the file; or removes it, when the run is complete. Fails
   where that fails; the file is closed all the same. Accepts a null pointer. */
IVON_API int ivon_records_close(struct ivon_records *records, bool remove,
                                struct ivon_error *error);

#ifdef __cplusplus
}
#endif

#endif
