#include "formats/hdf5/types.h"

#include <string.h>

/* binary16 and bfloat16 have no type in HDF5: a binary32 with other fields. The size shrinks
   after the fields moved, since a type may never be too small for its fields. */
static hid_t hdf5_types_short_float(size_t exponent_bits, size_t mantissa_bits, size_t bias)
{
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    if (type >= 0 && H5Tset_fields(type, 15, mantissa_bits, exponent_bits, 0, mantissa_bits) >= 0 &&
        H5Tset_precision(type, 16) >= 0 && H5Tset_ebias(type, bias) >= 0 &&
        H5Tset_size(type, 2) >= 0)
        return type;
    H5Tclose(type);
    return -1;
}

/* h5py's: an enumeration of FALSE and TRUE over int8. */
static hid_t boolean(void)
{
    hid_t type = H5Tenum_create(H5T_STD_I8LE);
    signed char no = 0, yes = 1;
    if (type >= 0 && H5Tenum_insert(type, "FALSE", &no) >= 0 &&
        H5Tenum_insert(type, "TRUE", &yes) >= 0)
        return type;
    H5Tclose(type);
    return -1;
}

hid_t hdf5_type_new(enum ivon_dtype dtype)
{
    switch (dtype) {
    case IVON_F64:
        return H5Tcopy(H5T_IEEE_F64LE);
    case IVON_F32:
        return H5Tcopy(H5T_IEEE_F32LE);
    case IVON_F16:
        return hdf5_types_short_float(5, 10, 15);
    case IVON_BF16:
        return hdf5_types_short_float(8, 7, 127);
    case IVON_I64:
        return H5Tcopy(H5T_STD_I64LE);
    case IVON_I32:
        return H5Tcopy(H5T_STD_I32LE);
    case IVON_I16:
        return H5Tcopy(H5T_STD_I16LE);
    case IVON_I8:
        return H5Tcopy(H5T_STD_I8LE);
    case IVON_U64:
        return H5Tcopy(H5T_STD_U64LE);
    case IVON_U32:
        return H5Tcopy(H5T_STD_U32LE);
    case IVON_U16:
        return H5Tcopy(H5T_STD_U16LE);
    case IVON_U8:
        return H5Tcopy(H5T_STD_U8LE);
    case IVON_BOOL:
        return boolean();
    default:
        return -1;
    }
}

bool hdf5_type_recognise(hid_t type, enum ivon_dtype *dtype, bool *as_stored)
{
    for (enum ivon_dtype candidate = 0; candidate < IVON_DTYPE_COUNT; candidate++) {
        hid_t own = hdf5_type_new(candidate);
        bool little = H5Tequal(type, own) > 0;
        bool big = !little && candidate != IVON_BOOL && H5Tset_order(own, H5T_ORDER_BE) >= 0 &&
                   H5Tequal(type, own) > 0;
        H5Tclose(own);
        if (little || big) {
            *dtype = candidate;
            *as_stored = little;
            return true;
        }
    }
    return false;
}
