# Install rules: headers, and a package config that find_package reads from wherever the prefix has been moved to.
# SPDX-License-Identifier: Apache-2.0
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/mxfp4)
set(any_machine ARCH_INDEPENDENT)
if(TARGET mxfp4_dispatch OR TARGET mxfp4_io)   # headers serve any machine, a library does not
  set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/mxfp4)
  set(any_machine "")
endif()

# CMake before 3.23 knows no file sets: it reads the include folder from the target.
set(include_folder INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS mxfp4_format EXPORT mxfp4-format-targets FILE_SET HEADERS ${include_folder})
install(EXPORT mxfp4-format-targets NAMESPACE mxfp4:: DESTINATION ${package_dir})
if(TARGET mxfp4)
  install(TARGETS mxfp4 EXPORT mxfp4-targets FILE_SET HEADERS FILE_SET executors ${include_folder})
  install(EXPORT mxfp4-targets NAMESPACE mxfp4:: DESTINATION ${package_dir})
endif()
if(TARGET mxfp4_dispatch)
  install(TARGETS mxfp4_dispatch EXPORT mxfp4-dispatch-targets FILE_SET HEADERS ${include_folder})
  install(EXPORT mxfp4-dispatch-targets NAMESPACE mxfp4:: DESTINATION ${package_dir})
endif()
foreach(library io checkpoint)
  if(TARGET mxfp4_${library})
    install(TARGETS mxfp4_${library} EXPORT mxfp4-${library}-targets FILE_SET HEADERS ${include_folder})
    install(EXPORT mxfp4-${library}-targets NAMESPACE mxfp4:: DESTINATION ${package_dir})
  endif()
endforeach()   # the program is a component of its own, tools: tools/CMakeLists.txt
if(TARGET mxfp4_cuda)
  install(TARGETS mxfp4_cuda EXPORT mxfp4-cuda-targets FILE_SET HEADERS ${include_folder})
  install(EXPORT mxfp4-cuda-targets NAMESPACE mxfp4:: DESTINATION ${package_dir})
endif()

configure_package_config_file(cmake/mxfp4Config.cmake.in ${PROJECT_BINARY_DIR}/mxfp4Config.cmake
  INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/mxfp4ConfigVersion.cmake
  COMPATIBILITY SameMinorVersion ${any_machine})   # before 1.0 a minor version may break source compatibility
install(FILES ${PROJECT_BINARY_DIR}/mxfp4Config.cmake ${PROJECT_BINARY_DIR}/mxfp4ConfigVersion.cmake
  cmake/mxfp4-xsimd.cmake cmake/mxfp4-re2.cmake
  DESTINATION ${package_dir})

# pkg-config: mxfp4-format.pc for the headers without dependencies, mxfp4.pc adds xsimd. They find the prefix from where
# they are, so it may be moved.
set(pkgconfig_dir ${CMAKE_INSTALL_DATADIR}/pkgconfig)
file(RELATIVE_PATH up ${CMAKE_INSTALL_FULL_DATADIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" up "${up}")
function(mxfp4_install_pc name description requires)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/mxfp4.pc.in ${PROJECT_BINARY_DIR}/${name}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${name}.pc DESTINATION ${pkgconfig_dir})
endfunction()
mxfp4_install_pc(mxfp4-format "The MXFP4 format and its plain loops, C++20 headers" "")
if(TARGET mxfp4)
  mxfp4_install_pc(mxfp4 "MXFP4 with vector kernels, C++20 headers" "mxfp4-format = ${PROJECT_VERSION}, xsimd >= 13.2")
endif()
