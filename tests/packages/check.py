#!/usr/bin/env python3
# tests/packages/check.py -- the packages of the program, each in a root that has a C library and nothing else.
# SPDX-License-Identifier: Apache-2.0
"""check.py PACKAGES MODEL: PACKAGES is the folder that target mxfp4_packages fills, MODEL a small checkpoint.

A package for this processor runs after chroot (user namespaces where we are not root), one for 64-bit Arm under
qemu-aarch64, which finds its libraries in the root alone. Exit code 77 where neither is to be had.
"""
import glob
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
ONE = bytes.fromhex("0000803f") * 32                     # 32 floats of 1: codes 6 (4.0) under 2^-2
CPUS = {"x86_64": [("qemu64", "sse2"), ("Nehalem", "sse2"), ("Haswell", "avx2")],
        "aarch64": [("cortex-a57", "neon"), ("max", "neon_i8mm")]}
LIBC = {"x86_64": ["/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libm.so.6"],
        "aarch64": [f"/usr/aarch64-linux-gnu/lib/{name}" for name in ("ld-linux-aarch64.so.1", "libc.so.6", "libm.so.6")]}
FILES = {"bin/mxfp4", "share/bash-completion/completions/mxfp4", "share/zsh/site-functions/_mxfp4",
         "share/fish/vendor_completions.d/mxfp4.fish", "share/man/man1/mxfp4.1"} | {
             f"share/doc/mxfp4/{name}" for name in ("LICENSE", "README.md", "CHANGELOG.md", "install.md")} | {
                 f"share/doc/mxfp4/third-party/{name}" for name in (
                     "CLI11", "Eigen", "GCC", "GPL-3", "RE2", "nlohmann-json", "oneTBB", "xsimd", "xxHash")}
ONIGURUMA = "share/doc/mxfp4/third-party/Oniguruma"      # where the library is
LIBRARIES = re.compile(r"lib/mxfp4/lib(tbb|re2|onig|stdc\+\+|gcc_s)\.so\.\d+$")


def fail(text):
    sys.exit(f"failed: {text}")


def must(line, **options):
    done = subprocess.run(line, capture_output=True, text=True, **options)
    if done.returncode != 0:
        fail(f"{' '.join(line)}: exit code {done.returncode}: {done.stderr}")
    return done.stdout


class Root:
    """A folder as the root of a system that has a libc; `cpu` is one of qemu's."""

    def __init__(self, folder, processor):
        self.folder, self.processor = folder, processor
        for path in LIBC[processor]:
            to = folder + (path if processor == "x86_64" else "/lib/" + os.path.basename(path))
            os.makedirs(os.path.dirname(to), exist_ok=True)
            shutil.copy(os.path.realpath(path), to)
        os.makedirs(folder + "/tmp", exist_ok=True)

    def run(self, *line, cpu=None, environment={}):
        """Paths that begin with / are those of the root."""
        native = self.processor == platform.machine()
        if cpu or not native:
            program = f"qemu-{self.processor}"
            inside = [self.folder + word if word.startswith("/") else word for word in line]
            line = [program, *(["-cpu", cpu] if cpu else []), "-L", self.folder, *inside]
        else:
            self.say_which_program(line[0])
            line = (["chroot"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--root"]) + [self.folder, *line]
        return subprocess.run(line, capture_output=True, text=True, env={"PATH": os.environ["PATH"], **environment})

    def say_which_program(self, path):
        """What the kernel's /proc says to the loader, which has to find the libraries beside the program."""
        link = self.folder + "/proc/self/exe"
        os.makedirs(os.path.dirname(link), exist_ok=True)
        if os.path.lexists(link):
            os.unlink(link)
        os.symlink(path, link)

    def must(self, *line, **options):
        done = self.run(*line, **options)
        if done.returncode != 0:
            fail(f"{self.processor}: {' '.join(line)}: exit code {done.returncode}: {done.stderr}")
        return done.stdout


def files_of(folder):
    return {os.path.relpath(os.path.join(at, name), folder) for at, _, names in os.walk(folder) for name in names}


def check_files(where, files):
    libraries = {name for name in files if LIBRARIES.match(name)}
    expected = FILES | ({ONIGURUMA} if any("libonig" in name for name in libraries) else set())
    if files - libraries != expected or not any("libstdc++" in name for name in libraries):
        fail(f"{where}: holds {sorted(files)}")


def check_program(root, program, model):
    """What it says of itself, 32 numbers there and back, and a checkpoint: a digest of the bytes that it wrote."""
    if not re.match(r"mxfp4 \d+\.\d+\.\d+\nISA      \w+, of ", root.must(program, "--version")):
        fail(f"{program}: --version says {root.must(program, '--version')}")
    with open(root.folder + "/tmp/numbers", "wb") as file:
        file.write(ONE)
    root.must(program, "encode", "/tmp/numbers", "--recipe", "ocp", "--packed", "/tmp/codes", "--scale", "/tmp/scales",
              "--overwrite")
    root.must(program, "decode", "/tmp/back", "--packed", "/tmp/codes", "--scale", "/tmp/scales", "--overwrite")
    for name, expected in (("codes", b"\x66" * 16), ("scales", b"\x7d"), ("back", ONE)):
        with open(f"{root.folder}/tmp/{name}", "rb") as file:
            if (found := file.read()) != expected:
                fail(f"{program}: {name} is {found.hex()}, expected {expected.hex()}")
    if not os.path.exists(root.folder + "/tmp/model"):
        shutil.copytree(model, root.folder + "/tmp/model")
    shutil.rmtree(root.folder + "/tmp/out", ignore_errors=True)
    root.must(program, "quantize", "/tmp/model", "/tmp/out")
    root.must(program, "verify", "/tmp/out", "--against", "/tmp/model")
    digest = hashlib.sha256()
    for path in sorted(glob.glob(root.folder + "/tmp/out/*.safetensors")):
        with open(path, "rb") as file:
            digest.update(file.read())
    missing = root.run(program, "inspect", "/tmp/none")
    if missing.returncode != 1 or "/tmp/none" not in missing.stderr:
        fail(f"{program}: a file that is not there: exit code {missing.returncode}: {missing.stderr}")
    return digest.hexdigest()


def main():
    packages, model = map(os.path.abspath, sys.argv[1:])
    digests, tried = {}, []
    with tempfile.TemporaryDirectory(prefix="mxfp4-packages-") as scratch:
        for processor, debian in (("x86_64", "amd64"), ("aarch64", "arm64")):
            archives, debs = glob.glob(f"{packages}/mxfp4-*-linux-{processor}.tar.gz"), glob.glob(f"{packages}/*_{debian}.deb")
            if not archives:
                continue
            if len(archives) != 1 or len(debs) != 1:
                fail(f"{packages}: {archives} and {debs}, expected one of each")
            if processor != platform.machine() and not shutil.which(f"qemu-{processor}"):
                print(f"not tried: {processor}, without qemu-{processor}")
                continue

            root = Root(f"{scratch}/{processor}", processor)
            os.makedirs(root.folder + "/opt")
            must(["tar", "-xf", archives[0], "-C", root.folder + "/opt"])
            (name,) = os.listdir(root.folder + "/opt")
            check_files(archives[0], files_of(f"{root.folder}/opt/{name}"))
            if name + ".tar.gz" != os.path.basename(archives[0]):
                fail(f"{archives[0]}: unpacks to {name}")
            digests[processor, "archive"] = check_program(root, f"/opt/{name}/bin/mxfp4", model)
            os.rename(f"{root.folder}/opt/{name}", f"{root.folder}/moved to here")   # it runs from anywhere
            digests[processor, "moved"] = check_program(root, "/moved to here/bin/mxfp4", model)
            if shutil.which(f"qemu-{processor}"):                                   # the CPU picks among all
                for cpu, isa in CPUS[processor]:
                    said = root.must("/moved to here/bin/mxfp4", "--version", cpu=cpu)
                    if f"\nISA      {isa}, of " not in said:
                        fail(f"{processor}: on {cpu} --version says {said}, expected {isa}")
                # Without its parts it does not run: what the root has beside them is not enough.
                os.rename(f"{root.folder}/moved to here/lib", f"{root.folder}/lib_gone")
                if root.run("/moved to here/bin/mxfp4", "--version").returncode == 0:
                    fail(f"{processor}: runs without lib/mxfp4")

            root = Root(f"{scratch}/{debian}", processor)
            os.makedirs(root.folder + "/var/lib/dpkg/updates")
            os.makedirs(root.folder + "/var/lib/dpkg/info")
            for empty in ("status", "available"):
                open(f"{root.folder}/var/lib/dpkg/{empty}", "w", encoding="ascii").close()
            depends = must(["dpkg-deb", "--field", debs[0], "Depends"]).strip()
            if not re.fullmatch(r"libc6 \(>= 2\.\d+\)", depends):
                fail(f"{debs[0]}: depends on {depends}")
            dpkg = ["dpkg", f"--root={root.folder}", "--force-depends", "--force-architecture", "--force-not-root",
                    "--force-script-chrootless"]
            must(dpkg + ["-i", debs[0]])
            check_files(debs[0], files_of(root.folder + "/usr"))
            digests[processor, "deb"] = check_program(root, "/usr/bin/mxfp4", model)
            must(dpkg + ["-r", "mxfp4"])
            if left := files_of(root.folder + "/usr") if os.path.exists(root.folder + "/usr") else set():
                fail(f"{debs[0]}: removing it leaves {left}")
            tried += [os.path.basename(archives[0]), os.path.basename(debs[0])]
    if not tried:
        print(f"skipped: no package in {packages} that can be run here")
        return SKIPPED
    if len(set(digests.values())) != 1:
        fail(f"the bytes of the same checkpoint differ: {digests}")
    print("tried: " + ", ".join(f"{name} ({os.path.getsize(os.path.join(packages, name)) / 1e6:.1f} MB)" for name in tried))
    return 0


if __name__ == "__main__":
    sys.exit(main())
