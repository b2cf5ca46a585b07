/* ivon-convert --model: a graph for the tensors that are written. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd/convert/convert.h"
#include "cmd/shared/memory.h"
#include "cmd/shared/report.h"

static int read_graph_file(struct convert_command *command, struct ivon_error *error)
{
    struct stat status;
    FILE *file;
    int code = ivon_input_open(&file, command->model, error);
    if (code)
        return code;
    bool fine = !fstat(fileno(file), &status);
    if (fine && !S_ISREG(status.st_mode)) {
        fclose(file);
        return error_fill(error, IVON_ERROR_INPUT, "%s: %s, expected a regular file",
                          command->model,
                          S_ISDIR(status.st_mode) ? "is a directory" : "is a device or a pipe");
    }
    if (fine) {
        command->graph_size = (size_t)status.st_size;
        command->graph = xmalloc(command->graph_size + 1);
        fine = fread(command->graph, 1, command->graph_size, file) == command->graph_size;
    }
    if (!fine)
        code = error_fill(error, IVON_ERROR_IO, "%s: cannot read it: %s", command->model,
                          strerror(errno));
    fclose(file);
    return code;
}

/* Writes the graph anew, with the one output that the network has, and without external data. */
static int rewrite_graph(struct convert_command *command, const struct ivon_network *network,
                         struct ivon_error *error)
{
    void *bytes = NULL;
    size_t size;
    int code = ivon_onnx_write(&bytes, &size, network, NULL, error);
    if (code)
        return code;
    free(command->graph);
    command->graph = bytes;
    command->graph_size = size;
    return 0;
}

/* That the graph takes the tensors as they are written. */
static int check_graph(struct convert_command *command, struct ivon_error *error)
{
    struct ivon_network *network = NULL;
    struct ivon_adapt_options adapt = ivon_adapt_defaults();
    struct ivon_adaptation done;
    adapt.output = command->graph_output;
    struct ivon_error inner = {0};
    int code = ivon_onnx_from_memory(&network, command->model, command->graph, command->graph_size,
                                     &inner);
    bool external = code == IVON_ERROR_DATA; /* perhaps: of a file such data are read */
    if (external)
        code = ivon_onnx_open(&network, command->model, error);
    else if (code && error)
        *error = inner;
    if (!code)
        code = ivon_network_adapt(network, command->chosen, &adapt, &done, error);
    if (!code)
        code = bind_checkpoint(network, command->chosen, command->input, &command->bind,
                               &command->common, error);
    if (!code && (command->graph_output || external))
        code = rewrite_graph(command, network, error);
    ivon_network_free(network);
    return code;
}

int convert_read_graph(struct convert_command *command, struct ivon_error *error)
{
    int code = read_graph_file(command, error);
    return code ? code : check_graph(command, error);
}
