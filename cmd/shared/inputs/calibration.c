#include "cmd/shared/inputs/calibration.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/shared/report.h"
#include "ivon/input.h"

enum { PIECE = 1 << 16, SIZE_LIMIT = 256 << 20 };

/* Reads all bytes of a stream, up to the limit. */
static int calibration_read_bytes(FILE *file, const char *path, char **text, size_t *size,
                                  struct ivon_error *error)
{
    size_t capacity = 0, got = 1;
    while (got && *size < SIZE_LIMIT) {
        if (capacity - *size < PIECE) {
            capacity = 2 * capacity + PIECE;
            char *grown = realloc(*text, capacity);
            if (!grown)
                return error_memory(error);
            *text = grown;
        }
        got = fread(*text + *size, 1, PIECE, file);
        *size += got;
    }
    if (ferror(file))
        return error_input(error, path, "read", strerror(errno));
    return got ? error_fill(error, IVON_ERROR_DATA, "%s: no calibration: more than %d bytes", path,
                            SIZE_LIMIT)
               : 0;
}

int calibration_read(struct ivon_calibration **calibration, const char *path,
                     struct ivon_error *error)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file;
    int code = ivon_input_open(&file, path, error);
    if (code)
        return code;
    code = calibration_read_bytes(file, path, &text, &size, error);
    fclose(file);
    if (!code)
        code = ivon_calibration_parse(calibration, path, text, size, error);
    free(text);
    return code;
}

void calibration_deviations(float *deviations, const float *epistemic, const float *aleatoric,
                            size_t count)
{
    for (size_t i = 0; i < count; i++)
        deviations[i] = (float)hypot((double)epistemic[i], aleatoric ? (double)aleatoric[i] : 0);
}

size_t calibration_outputs(enum ivon_likelihood likelihood, size_t outputs)
{
    return ivon_likelihood_traits(likelihood)->regression
               ? ivon_likelihood_targets(likelihood, outputs)
               : outputs;
}
