/* safetensors, in one file, and indices of several. */
#include "tests/fuzz/open.h"
