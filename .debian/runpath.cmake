# The loader finds a library of Debian's directories by itself: packages have no run path.
file(RPATH_REMOVE FILE ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/usr/bin/ivon)
