"""Compiles CUDA source on standard input to PTX on standard output, with the NVRTC in the folder given."""

import ctypes
import os
import sys

BUILTINS = "libnvrtc-builtins.so.11.8"
COMPILER = "libnvrtc.so.11.2"


def text_of(library, program, size_of, read):
    size = ctypes.c_size_t()
    if getattr(library, size_of)(program, ctypes.byref(size)) != 0:
        sys.exit(f"{size_of} failed")
    text = ctypes.create_string_buffer(size.value)
    if getattr(library, read)(program, text) != 0:
        sys.exit(f"{read} failed")
    return text.value.decode()


def main():
    folder, name, *options = sys.argv[1:]
    # The compiler opens its built-in declarations by name alone, so they have to be there before it looks.
    ctypes.CDLL(os.path.join(folder, BUILTINS), ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(os.path.join(folder, COMPILER))
    program = ctypes.c_void_p()
    source = sys.stdin.buffer.read()
    if library.nvrtcCreateProgram(ctypes.byref(program), source, name.encode(), 0, None, None) != 0:
        sys.exit("nvrtcCreateProgram failed")
    arguments = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
    outcome = library.nvrtcCompileProgram(program, len(options), arguments)
    sys.stderr.write(text_of(library, program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog"))
    if outcome != 0:
        sys.exit(f"nvrtcCompileProgram failed with code {outcome}")
    sys.stdout.write(text_of(library, program, "nvrtcGetPTXSize", "nvrtcGetPTX"))


main()
