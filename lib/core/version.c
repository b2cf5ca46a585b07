#include "ivon/api.h"

const char *ivon_version(void)
{
    return IVON_VERSION;
}
