/* Posteriors in HDF5. */
#include "tests/fuzz/open.h"
