#include "ivon/ivon.h"

const char *ivon_version(void)
{
    return IVON_VERSION;
}
