# packaging/conan/conanfile.py -- mxfp4's headers as a package of Conan 2: conan create packaging/conan
# SPDX-License-Identifier: Apache-2.0
import os
import re

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeToolchain
from conan.tools.files import copy, load

required_conan_version = ">=2.0"


class Mxfp4(ConanFile):
    name = "mxfp4"
    description = "The MXFP4 format: encode, decode, multiply"
    license = "Apache-2.0"
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"kernels": [True, False]}     # False: mxfp4::format alone, without any dependency
    default_options = {"kernels": True}
    no_copy_source = True

    @property
    def _root(self):
        return os.path.join(self.recipe_folder, "..", "..")

    def set_version(self):
        text = load(self, os.path.join(self._root, "include/mxfp4/core/version.hpp"))
        self.version = ".".join(re.findall(r"define MXFP4_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", text))

    def export_sources(self):
        for pattern in ("CMakeLists.txt", "cmake/*", "include/*", "LICENSE"):
            copy(self, pattern, self._root, self.export_sources_folder)

    def requirements(self):
        if self.options.kernels:
            self.requires("xsimd/13.2.0")

    def validate(self):
        check_min_cppstd(self, 20)

    def generate(self):
        toolchain = CMakeToolchain(self)
        for name in ("DISPATCH", "IO", "BUILD_TESTS", "BUILD_BENCH", "BUILD_EXAMPLES", "BUILD_TOOLS"):
            toolchain.cache_variables[f"MXFP4_{name}"] = False
        toolchain.cache_variables["MXFP4_CUDA"] = "OFF"
        toolchain.cache_variables["MXFP4_FORMAT_ONLY"] = not self.options.kernels
        toolchain.generate()

    def build(self):
        CMake(self).configure()

    def package(self):
        CMake(self).install()
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))

    def package_id(self):
        self.info.settings.clear()            # headers serve any machine; without kernels there are fewer of them

    def package_info(self):
        # find_package reads mxfp4's own configuration, with its targets and components.
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs = ["share/cmake/mxfp4"]
        self.cpp_info.bindirs = self.cpp_info.libdirs = []
