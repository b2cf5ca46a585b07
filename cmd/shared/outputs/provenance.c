#define _GNU_SOURCE
#include "cmd/shared/outputs/provenance.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"
#include "ivon/ivon.h"

enum { TEXT_MAX = 60000 /* bytes: an attribute ends at 64 kB */ };

/* Appends an argument so that a shell reads it back as it was. */
static void quote(FILE *out, const char *argument)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "-_=+,./:@%^";
    if (*argument && strspn(argument, plain) == strlen(argument)) {
        fputs(argument, out);
        return;
    }
    fputc('\'', out);
    for (; *argument; argument++)
        *argument == '\'' ? fputs("'\\''", out) : fputc(*argument, out);
    fputc('\'', out);
}

static char *command_line(int argc, char **argv)
{
    char *text = NULL;
    size_t size;
    FILE *out = memory_of(open_memstream(&text, &size));
    for (int i = 0; i < argc; i++) {
        if (i)
            fputc(' ', out);
        quote(out, argv[i]);
    }
    if (fclose(out))
        memory_exhausted();
    return text;
}

json_t *provenance_new(int argc, char **argv)
{
    const char *epoch = getenv("SOURCE_DATE_EPOCH");
    time_t now = epoch ? (time_t)strtoll(epoch, NULL, 10) : time(NULL);
    struct tm date;
    char text[32] = "";
    if (gmtime_r(&now, &date))
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &date);
    char *command = command_line(argc, argv);
    json_t *provenance = json_object();
    json_object_set_new(provenance, "command", report_json_text(command));
    json_object_set_new(provenance, "version", json_string(ivon_version()));
    json_object_set_new(provenance, "date", json_string(text));
    free(command);
    return provenance;
}

int provenance_add_input(json_t *provenance, const char *path, double weight, bool hash,
                         struct ivon_error *error)
{
    char digest[65];
    json_t *inputs = json_object_get(provenance, "inputs"), *input = json_object();
    if (!inputs) {
        inputs = json_array();
        json_object_set_new(provenance, "inputs", inputs);
    }
    json_object_set_new(input, "path", report_json_text(path));
    if (!isnan(weight))
        json_object_set_new(input, "weight", json_real(weight));
    int code = hash ? ivon_checkpoint_hash(digest, path, error) : 0;
    if (hash && !code)
        json_object_set_new(input, "sha256", json_string(digest));
    json_array_append_new(inputs, input);
    return code;
}

char *provenance_text(json_t *provenance)
{
    char *text = memory_of(json_dumps(provenance, JSON_COMPACT));
    static const char *const expendable[] = {"inputs", "command"};
    for (size_t i = 0; i < 2 && strlen(text) > TEXT_MAX; i++) {
        free(text);
        json_object_set_new(provenance, expendable[i], json_string("too long to be kept"));
        text = memory_of(json_dumps(provenance, JSON_COMPACT));
    }
    json_decref(provenance);
    return text;
}
