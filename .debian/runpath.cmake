# The loader finds a library of Debian's directories by itself: packages have no run path.
file(GLOB programs ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/*/usr/bin/ivon)
foreach(program IN LISTS programs)
  file(RPATH_REMOVE FILE ${program})
endforeach()
