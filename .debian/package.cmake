# The Debian package: cmake --build --preset release --target package.
set(IVON_MAINTAINER "ivon maintainers <maintainers@ivon.invalid>" CACHE STRING
  "the package's maintainer: Name <address>")
set(here ${CMAKE_SOURCE_DIR}/.debian)
set(changelog ${CMAKE_BINARY_DIR}/changelog.gz)
add_custom_command(OUTPUT ${changelog}
  DEPENDS ${here}/changelog.sh ${CMAKE_SOURCE_DIR}/NEWS.md
  COMMAND bash ${here}/changelog.sh ${CMAKE_SOURCE_DIR}/NEWS.md ${IVON_MAINTAINER} > changelog
  COMMAND gzip -n9f changelog
  WORKING_DIRECTORY ${CMAKE_BINARY_DIR} VERBATIM)
add_custom_target(changelog ALL DEPENDS ${changelog})
install(FILES ${here}/copyright ${changelog} DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME ivon)
set(CPACK_PACKAGE_CONTACT ${IVON_MAINTAINER})
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "tools and library for variational posteriors of networks")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
"The IVON optimizer trains deep networks at the cost of Adam and leaves
behind a Gaussian posterior, a mean and a diagonal Hessian per parameter.
These commands work with such posteriors after training: they merge
finetuned models, average predictions over weights, tell how much a model
depends on each training example, predict the test loss without test data,
and convert checkpoints of PyTorch, safetensors, npz and HDF5.
.
The package holds the commands, the C library with its headers, and a
Python module for training scripts.")
set(CPACK_PACKAGE_DIRECTORY ${CMAKE_BINARY_DIR})
set(CPACK_STRIP_FILES ON)
set(CPACK_PRE_BUILD_SCRIPTS ${here}/runpath.cmake)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
  OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${CMAKE_BINARY_DIR})
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
# Two packages: what joins ranks of MPI would bring both MPIs along.
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_GROUPING ONE_PER_GROUP)
get_cmake_property(components COMPONENTS)
foreach(component IN LISTS components)
  string(TOUPPER ${component} upper)
  set(CPACK_COMPONENT_${upper}_GROUP all)
endforeach()
set(CPACK_COMPONENT_MPI_GROUP mpi)
set(CPACK_DEBIAN_ALL_PACKAGE_NAME ivon)
set(CPACK_DEBIAN_ALL_DESCRIPTION "${CPACK_DEBIAN_PACKAGE_DESCRIPTION}")
set(CPACK_DEBIAN_ALL_PACKAGE_CONTROL_EXTRA ${here}/postinst ${here}/prerm ${here}/triggers)
set(CPACK_DEBIAN_ALL_PACKAGE_DEPENDS "python3:any")
set(CPACK_DEBIAN_ALL_PACKAGE_RECOMMENDS "gnuplot-nox")
set(CPACK_DEBIAN_ALL_PACKAGE_SUGGESTS "ivon-mpi, python3-numpy, python3-h5py, python3-torch")
set(CPACK_DEBIAN_MPI_PACKAGE_NAME ivon-mpi)
set(CPACK_DEBIAN_MPI_DESCRIPTION "With this package mpirun and srun start commands of ivon as processes that
share the work of one call, on one machine or many.")
set(CPACK_DEBIAN_MPI_PACKAGE_DEPENDS "ivon (= ${PROJECT_VERSION})")
include(CPack)
