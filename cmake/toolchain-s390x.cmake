# Builds for IBM Z, which is big-endian, with the distribution's cross compiler; qemu-user runs what was built
# (setup.sh --with cross).
# SPDX-License-Identifier: Apache-2.0
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR s390x)
set(CMAKE_CXX_COMPILER s390x-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-s390x -cpu max -L /usr/s390x-linux-gnu)
