#include "cmd/shared/outputs/tuned.h"

#include <string.h>

#define KEY        "tuned_on"
#define VALIDATION "validation"

void tuned_mark(json_t *provenance)
{
    json_object_set_new(provenance, KEY, json_string(VALIDATION));
}

bool tuned_is_marked(const struct ivon_header *header)
{
    json_t *provenance = header->provenance ? json_loads(header->provenance, 0, NULL) : NULL;
    const char *found = json_string_value(json_object_get(provenance, KEY));
    bool marked = found && strcmp(found, VALIDATION) == 0;
    json_decref(provenance);
    return marked;
}
