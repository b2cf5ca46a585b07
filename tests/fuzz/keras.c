/* Keras' archives, and the HDF5 files in them. */
#include "tests/fuzz/open.h"
