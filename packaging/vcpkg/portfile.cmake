# mxfp4's headers as a port of vcpkg; an overlay port, which takes the sources that it lies in.
# SPDX-License-Identifier: Apache-2.0
set(SOURCE_PATH "${CMAKE_CURRENT_LIST_DIR}/../..")
set(VCPKG_BUILD_TYPE release)   # headers alone

set(format_only ON)
if("kernels" IN_LIST FEATURES)
  set(format_only OFF)
endif()
vcpkg_cmake_configure(SOURCE_PATH "${SOURCE_PATH}" OPTIONS
  -DMXFP4_FORMAT_ONLY=${format_only} -DMXFP4_DISPATCH=OFF -DMXFP4_IO=OFF -DMXFP4_CUDA=OFF
  -DMXFP4_BUILD_TESTS=OFF -DMXFP4_BUILD_BENCH=OFF -DMXFP4_BUILD_EXAMPLES=OFF -DMXFP4_BUILD_TOOLS=OFF)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(PACKAGE_NAME mxfp4 CONFIG_PATH share/cmake/mxfp4)
vcpkg_fixup_pkgconfig()
file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug" "${CURRENT_PACKAGES_DIR}/lib")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
