/* What every public header needs: the mark of an exported function. */
#ifndef IVON_API_H
#define IVON_API_H

#if defined(__GNUC__)
#define IVON_API __attribute__((visibility("default")))
#else
#define IVON_API
#endif

#endif
