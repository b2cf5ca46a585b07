/* The model card of a merged model: README.md, as model hubs show it. */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/merge/merge.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

/* "ORGANISATION/NAME" of a path into the cache of Hugging Face's libraries, which has a directory
   models--ORGANISATION--NAME for it; null for another path. To be freed. */
static char *hub_name(const char *path)
{
    static const char mark[] = "models--";
    char *real = realpath(path, NULL), *name = NULL;
    for (const char *at = real; at && (at = strstr(at, mark)) && !name; at += sizeof mark - 1) {
        const char *start = at + sizeof mark - 1, *split = strstr(start, "--");
        size_t length = strcspn(start, "/");
        if (at > real && at[-1] == '/' && split && (size_t)(split - start) < length)
            name = xasprintf("%.*s/%.*s", (int)(split - start), start,
                             (int)(length - (size_t)(split - start) - 2), split + 2);
    }
    free(real);
    return name;
}

char *merge_model_name(const char *path)
{
    static const char factors[] = "/adapter_model.";
    char *name = hub_name(path), *slash;
    if (!name)
        name = ivon_directory_of(path);
    if (!name)
        name = xstrdup(path);
    slash = strrchr(name, '/');
    if (slash > name && strncmp(slash, factors, sizeof factors - 1) == 0)
        *slash = '\0';
    return name;
}

/* A string of YAML, which takes those of JSON. */
static void put_yaml(FILE *out, const char *text)
{
    json_t *value = report_json_text(text);
    char *quoted = json_dumps(value, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    fputs(quoted ? quoted : "null", out);
    free(quoted);
    json_decref(value);
}

/* Text in which nothing means anything to Markdown. */
static void put_plain(FILE *out, const char *text)
{
    char *clean = xstrdup(text);
    ivon_text_clean(clean);
    for (const char *at = clean; *at; at++) {
        if (strchr("\\`*_{}[]<>()#+!|~&", *at))
            fputc('\\', out);
        fputc(*at, out);
    }
    free(clean);
}

static void put_front_matter(FILE *out, const struct merge_command *command)
{
    fputs("---\n", out);
    size_t inputs = command->model_count + (command->base_path != NULL);
    if (command->lora_rank)
        fputs("library_name: peft\n", out);
    else if (command->folder.config)
        fputs("library_name: transformers\n", out);
    fputs("base_model:\n", out);
    for (size_t i = 0; i < (command->lora_rank ? 1 : inputs); i++) { /* what it is loaded onto */
        size_t model = i - (command->base_path != NULL);
        const char *path = command->base_path && !i ? command->base_path
                                                    : command->models[model].path;
        char *name = merge_model_name(path);
        fputs("- ", out);
        put_yaml(out, name);
        fputc('\n', out);
        free(name);
    }
    fprintf(out, "tags:\n- merge\n- ivon\n%s---\n", command->lora_rank ? "- lora\n" : "");
}

/* The inputs of the provenance: one without a weight is the base, or what belongs to the one
   before. */
static void put_inputs(FILE *out, const struct merge_command *command)
{
    size_t i;
    json_t *input;
    fprintf(out, "\n| input | weight |%s\n| --- | --- |%s\n", command->hash ? " SHA-256 |" : "",
            command->hash ? " --- |" : "");
    json_array_foreach(json_object_get(command->folder.provenance, "inputs"), i, input)
    {
        const char *path = json_string_value(json_object_get(input, "path"));
        const json_t *weight = json_object_get(input, "weight");
        fputs("| ", out);
        put_plain(out, path ? path : "?");
        if (weight)
            fprintf(out, " | %.12g |", json_number_value(weight));
        else
            fputs(!i && command->base_path ? " | base |" : " | |", out);
        if (command->hash)
            fprintf(out, " %s |", json_string_value(json_object_get(input, "sha256")));
        fputc('\n', out);
    }
}

static void put_command(FILE *out, const struct merge_command *command)
{
    const char *text = json_string_value(json_object_get(command->folder.provenance, "command"));
    if (!text || command->files.no_provenance)
        return;
    char *clean = xstrdup(text);
    ivon_text_clean(clean);
    fprintf(out, "\nIt was made by:\n\n    %s\n", clean);
    free(clean);
}

char *merge_card(const struct merge_command *command, size_t output)
{
    char *text = NULL;
    size_t size;
    const char *method = command->folder.method;
    FILE *out = memory_of(open_memstream(&text, &size));
    char *name = xstrdup(command->outputs[output]);
    for (size_t end = strlen(name); end > 1 && name[end - 1] == '/';)
        name[--end] = '\0';
    const char *slash = strrchr(name, '/');
    put_front_matter(out, command);
    fputs("\n# ", out);
    put_plain(out, slash && slash[1] ? slash + 1 : name);
    fprintf(out, "\n\nA merge by ivon-merge %s", ivon_version());
    fprintf(out, ", method `%s`",
            method               ? method
            : command->base_path ? "gradient-matching"
                                 : "hessian");
    if (command->sweep)
        fprintf(out, ", all weights multiplied by %.12g", command->scales[output]);
    if (command->lora_rank)
        fprintf(out, ", cut to an adapter of rank %lld, relative error %.3g",
                (long long)command->lora_rank, merge_adapter_error(command, output));
    fputs(".\n", out);
    put_inputs(out, command);
    put_command(out, command);
    free(name);
    if (fclose(out))
        memory_exhausted();
    return text;
}
