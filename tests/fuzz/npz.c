/* npz, stored and deflated. */
#include "tests/fuzz/open.h"
