# Where each dependency comes from: what find_package finds, else FetchContent, pinned.
# SPDX-License-Identifier: Apache-2.0
#
# Archives are the tag archives of each project. Their SHA256 are those that Debian's source index records for its
# unchanged upstream tarballs, and equal `git archive --prefix=<name>-<version>/ <tag> | gzip -cn | sha256sum`.
# Where Debian repacks the archive, the full commit id of the tag is the pin.
include(FetchContent)

set(mxfp4_pin_xsimd URL https://github.com/xtensor-stack/xsimd/archive/refs/tags/13.2.0.tar.gz
  URL_HASH SHA256=edd8cd3d548c185adc70321c53c36df41abe64c1fe2c67bc6d93c3ecda82447a)
set(mxfp4_pin_Catch2 URL https://github.com/catchorg/Catch2/archive/refs/tags/v3.7.1.tar.gz
  URL_HASH SHA256=c991b247a1a0d7bb9c39aa35faf0fe9e19764213f28ffba3109388e62ee0269c)
set(mxfp4_pin_benchmark URL https://github.com/google/benchmark/archive/refs/tags/v1.9.1.tar.gz
  URL_HASH SHA256=32131c08ee31eeff2c8968d7e874f3cb648034377dfc32a4c377fa8796d84981)
set(mxfp4_pin_nlohmann_json URL https://github.com/nlohmann/json/archive/refs/tags/v3.11.3.tar.gz
  URL_HASH SHA256=0d8ef5af7f9794e3263480193c491549b2ba6cc74bb018906202ada498a79406)
set(mxfp4_pin_CLI11 GIT_REPOSITORY https://github.com/CLIUtils/CLI11.git
  GIT_TAG 6c7b07a878ad834957b98d0f9ce1dbe0cb204fc9)   # v2.4.2
set(mxfp4_pin_TBB GIT_REPOSITORY https://github.com/uxlfoundation/oneTBB.git
  GIT_TAG 45587e94dfb6dfe00220c5f520020a5bc745e92f)   # v2022.1.0
set(mxfp4_pin_re2 URL https://github.com/google/re2/archive/refs/tags/2022-06-01.tar.gz   # later ones need Abseil too
  URL_HASH SHA256=f89c61410a072e5cbcf8c27e3a778da7d6fd2f2b5b1445cd4f4508bee946ab0f)
set(mxfp4_pin_xxHash GIT_REPOSITORY https://github.com/Cyan4973/xxHash.git
  GIT_TAG bbb27a5efb85b92a0486cf361a8635715a53f6ba    # v0.8.2
  SOURCE_SUBDIR headers-alone)   # no such folder: the sources are unpacked, and nothing of them is built
set(mxfp4_pin_Eigen3 GIT_REPOSITORY https://gitlab.com/libeigen/eigen.git
  GIT_TAG 3147391d946bb4b6c68edd901f2add6ac1f31f8c    # v3.4.0
  SOURCE_SUBDIR headers-alone)   # as of xxHash

# mxfp4_fetch(<package> [<option>=<value>...]): adds the pinned sources to this build; the options are its own.
function(mxfp4_fetch package)
  set(CMAKE_POLICY_DEFAULT_CMP0077 NEW)   # options are plain variables here and end with this function
  foreach(setting IN LISTS ARGN)
    string(REGEX MATCH "^([^=]+)=(.*)$" setting "${setting}")
    set(${CMAKE_MATCH_1} ${CMAKE_MATCH_2})
  endforeach()
  list(GET mxfp4_pin_${package} 1 url)
  message(STATUS "mxfp4: ${package} was not found, fetching ${url}")
  FetchContent_Declare(${package} SYSTEM ${mxfp4_pin_${package}})   # in front: CMake 3.25 takes it for a second URL_HASH
  FetchContent_MakeAvailable(${package})
endfunction()

# mxfp4_can_fetch(<package> <result>): false without a network, for what may be left out then.
function(mxfp4_can_fetch package result)
  list(GET mxfp4_pin_${package} 1 url)
  file(DOWNLOAD ${url} STATUS status INACTIVITY_TIMEOUT 10)
  list(GET status 0 code)
  string(COMPARE EQUAL ${code} 0 reachable)
  set(${result} ${reachable} PARENT_SCOPE)
endfunction()

# mxfp4_provide(<package> <least version> <target> [<option>=<value>...]): leaves <target>, found or fetched.
function(mxfp4_provide package least target)
  if(NOT TARGET ${target})
    find_package(${package} ${least} CONFIG QUIET GLOBAL)
  endif()
  if(NOT TARGET ${target})
    mxfp4_fetch(${package} ${ARGN})
  endif()
endfunction()

# RE2 has CMake's package in some distributions only: mxfp4_find_re2 knows where else to look.
function(mxfp4_provide_re2)
  mxfp4_find_re2()
  if(NOT TARGET re2::re2)
    mxfp4_fetch(re2 RE2_BUILD_TESTING=OFF CMAKE_POSITION_INDEPENDENT_CODE=ON)
  endif()
endfunction()

# Without xsimd and without a network: the sentence that the installed package says too, not an archive that failed.
function(mxfp4_provide_xsimd)
  mxfp4_find_xsimd(error GLOBAL)
  if(NOT error)
    return()
  endif()
  FetchContent_GetProperties(xsimd)
  if(NOT (xsimd_POPULATED OR FETCHCONTENT_SOURCE_DIR_XSIMD OR EXISTS ${FETCHCONTENT_BASE_DIR}/xsimd-src/CMakeLists.txt))
    mxfp4_can_fetch(xsimd reachable)
    if(NOT reachable)
      list(GET mxfp4_pin_xsimd 1 url)
      message(FATAL_ERROR "mxfp4: ${error}. Nor can it be fetched: ${url} is not reached from here")
    endif()
  endif()
  mxfp4_fetch(xsimd)
endfunction()

# Leaves mxfp4_xxhash, which has the folder of xxhash.h: the library is compiled into ours. Few packages have a
# CMake configuration (Debian's has none), so the header is looked for too.
function(mxfp4_provide_xxhash)
  if(TARGET mxfp4_xxhash)
    return()
  endif()
  set(least 0.8)   # XXH3 of 128 bits is final since
  find_package(xxHash ${least} CONFIG QUIET)
  if(TARGET xxHash::xxhash)
    get_target_property(include xxHash::xxhash INTERFACE_INCLUDE_DIRECTORIES)
    set(MXFP4_XXHASH_INCLUDE ${include} CACHE PATH "Folder of xxhash.h")
  else()
    find_path(MXFP4_XXHASH_INCLUDE xxhash.h)
  endif()
  mark_as_advanced(MXFP4_XXHASH_INCLUDE)
  set(version 0)
  set(include ${MXFP4_XXHASH_INCLUDE})
  if(EXISTS ${include}/xxhash.h)
    file(STRINGS ${include}/xxhash.h lines REGEX "define XXH_VERSION_(MAJOR|MINOR) ")
    string(REGEX REPLACE "[^0-9;]" "" version "${lines}")
    list(JOIN version . version)
  endif()
  if(version VERSION_LESS least)
    mxfp4_fetch(xxHash)
    FetchContent_GetProperties(xxHash SOURCE_DIR include)
  endif()
  add_library(mxfp4_xxhash INTERFACE)
  target_include_directories(mxfp4_xxhash SYSTEM INTERFACE ${include})
endfunction()

# Leaves mxfp4_eigen, which has the folder of Eigen: headers alone, for the program and nothing that is installed.
function(mxfp4_provide_eigen)
  if(TARGET mxfp4_eigen)
    return()
  endif()
  add_library(mxfp4_eigen INTERFACE)
  find_package(Eigen3 3.4 CONFIG QUIET)
  if(TARGET Eigen3::Eigen)
    get_target_property(include Eigen3::Eigen INTERFACE_INCLUDE_DIRECTORIES)
  else()
    mxfp4_fetch(Eigen3)
    FetchContent_GetProperties(Eigen3 SOURCE_DIR include)
  endif()
  target_include_directories(mxfp4_eigen SYSTEM INTERFACE ${include})
endfunction()
