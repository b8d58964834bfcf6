"""Compiles networks with TVM and writes one file for each: a ZIP archive of description, module and weights.

Arguments: the folder to write into, the kind of target (`cpu`, `cuda`, `cuda-source`), the GPU's architecture, and the
names of the networks. What is compiled for a GPU needs none.
"""

import argparse
import ctypes
import glob
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import zipfile

import numpy

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import networks

#: Alignment of parameters in their part; the loader checks it.
ALIGNMENT = 256
#: What processors must be able to do; the loader knows these names.
CPU = "x86-64-v3" if platform.machine() == "x86_64" else "generic"
#: Jobs whose outputs are kept beside the compiled models.
JOBS = 2


def packages():
    return os.path.dirname(os.path.dirname(os.path.abspath(numpy.__file__)))


def open_cuda(folder):
    """Opens TVM's part for GPUs without a GPU: it wants a driver, which an empty library of its name stands in for.

    Without that part TVM exports the source text of kernels in the place of machine code, and says nothing.
    """
    # The compiler's headers, laid out as an installed toolkit has them: TVM looks nowhere else.
    for triple in ("x86_64-linux", "sbsa-linux"):
        os.makedirs(os.path.join(folder, "targets", triple))
        os.symlink(f"{packages()}/nvidia/cu13/include", os.path.join(folder, "targets", triple, "include"))
    os.environ["CUDA_PATH"] = folder
    # Whole precision: outputs are compared with those of other backends.
    os.environ["TVM_CUDA_NVRTC_EXTRA_OPTS"] = "--ftz=false --prec-div=true --prec-sqrt=true"
    stub = os.path.join(folder, "libcuda.so.1")
    command = ["cc", "-shared", "-Wl,-soname,libcuda.so.1", "-x", "c", os.devnull, "-o", stub]
    subprocess.run(command, check=True)
    lazily = os.RTLD_LAZY | os.RTLD_GLOBAL
    ctypes.CDLL(stub, mode=lazily)
    ctypes.CDLL(glob.glob(f"{packages()}/nvidia/cu13/lib/libcudart.so.13")[0], mode=lazily)
    ctypes.CDLL(os.path.join(packages(), "tvm", "lib", "libtvm_runtime_cuda.so"), mode=lazily)


def target_of(tvm, kind, arch):
    if kind == "cpu":
        return tvm.target.Target({"kind": "llvm", "mcpu": CPU})
    return tvm.target.Target(
        {
            "kind": "cuda",
            "arch": arch,
            "max_threads_per_block": 1024,
            "max_shared_memory_per_block": 49152,
            "thread_warp_size": 32,
            "host": {"kind": "llvm"},
        }
    )


def element(dtype):
    names = {"float32": "f32", "float16": "f16", "float64": "f64", "int64": "i64", "int32": "i32"}
    names |= {"int8": "i8", "uint8": "u8", "bool": "bool"}
    return names[str(dtype)]


def lay_out(parameters):
    """Offsets of parameters in their part, and the part."""
    offsets, part = [], bytearray()
    for array in parameters:
        part.extend(bytes(-len(part) % ALIGNMENT))
        offsets.append(len(part))
        part.extend(array.tobytes())
    return offsets, bytes(part)


def constants_in(executable):
    """Tensors that the compiler put into the module instead of among its arguments."""
    pool = executable.stats().split("Constant pool", 1)[1].splitlines()[0]
    entries = pool.split("): [", 1)[1]
    return len(re.findall(r"(?:^|, )(?:\[|scalar)", entries))


def compile_network(tvm, name, model, kind, arch, folder):
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    mod = from_onnx(model, keep_params_in_input=True)
    mod, parameters = relax.frontend.detach_params(mod)
    parameters = [parameter.numpy() for parameter in parameters["main"]]
    arguments = [variable.name for variable in mod["main"].params]
    with target_of(tvm, kind, arch) as compiled_for:
        executable = tvm.compile(mod, compiled_for)
    if constants := constants_in(executable):
        sys.exit(f"{name}: {constants} constants would lie in memory that nobody pays for")
    with tempfile.TemporaryDirectory() as temporary:
        library = os.path.join(temporary, "module.so")
        executable.export_library(library)
        with open(library, "rb") as file:
            module = file.read()
    if kind == "cuda" and module.count(b"\x7fELF") < 2:
        sys.exit(f"{name}: the module holds no machine code for a GPU")
    offsets, weights = lay_out(parameters)
    graph = model.graph

    def tensors(values):
        return [
            {
                "name": value.name,
                "element": "f32",
                "shape": [axis.dim_value for axis in value.type.tensor_type.shape.dim],
            }
            for value in values
        ]

    operators = {}
    for node in graph.node:
        operators[node.op_type] = operators.get(node.op_type, 0) + 1
    described = [
        {"name": name, "element": element(array.dtype), "shape": list(array.shape), "offset": offset}
        for name, array, offset in zip(arguments[len(graph.input) :], parameters, offsets, strict=True)
    ]
    target = {"kind": "cpu", "cpu": CPU}
    if kind != "cpu":
        target = {"kind": "cuda", "arch": arch, "source": kind == "cuda-source"}
    description = {
        "format": 1,
        "tvm": tvm.__version__,
        "function": "main",
        "target": target,
        "inputs": tensors(graph.input),
        "outputs": tensors(graph.output),
        "parameters": described,
        "operators": operators,
    }
    label = kind if kind == "cpu" else f"{kind}-{arch}"
    path = os.path.join(folder, f"{name}.{label}.tvm")
    with zipfile.ZipFile(path + ".part", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("description.json", json.dumps(description, indent=1))
        archive.writestr("module.so", module)
        archive.writestr("weights.bin", weights)
    os.replace(path + ".part", path)
    print(f"{path}: module {len(module)} B, weights {len(weights)} B")


def write_reference(name, model, folder):
    """Inputs of seeded jobs and what the definition of the operators makes of them, in double precision."""
    from onnx.reference import ReferenceEvaluator

    random = numpy.random.default_rng(len(name))
    evaluator = ReferenceEvaluator(in_double_precision(model))
    [given] = model.graph.input
    shape = [axis.dim_value for axis in given.type.tensor_type.shape.dim]
    for job in range(JOBS):
        x = random.standard_normal(shape).astype(numpy.float32)
        x.tofile(os.path.join(folder, f"{name}.{job}.x.f32"))
        outputs = evaluator.run(None, {"x": x.astype(numpy.float64)})
        for value, output in zip(model.graph.output, outputs, strict=True):
            path = os.path.join(folder, f"{name}.{job}.{value.name}.f32")
            output.astype(numpy.float32).tofile(path)


def in_double_precision(model):
    import onnx
    from onnx import TensorProto, numpy_helper

    model = onnx.ModelProto.FromString(model.SerializeToString())
    for weight in model.graph.initializer:
        wide = numpy_helper.to_array(weight).astype(numpy.float64)
        weight.CopyFrom(numpy_helper.from_array(wide, weight.name))
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    return model


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--kind", choices=["cpu", "cuda", "cuda-source"], required=True)
    parser.add_argument("--arch", required=True)
    parser.add_argument("--networks", nargs="+", required=True)
    options = parser.parse_args()
    os.makedirs(options.folder, exist_ok=True)
    # The part for GPUs must be there before the compiler looks for it, and must not where source is wanted: a process
    # compiles for one kind.
    kind = options.kind
    import tvm

    with tempfile.TemporaryDirectory() as temporary:
        if kind == "cuda":
            open_cuda(temporary)
            if tvm.get_global_func("ffi.Module.create.cuda", allow_missing=True) is None:
                sys.exit("TVM's part for GPUs was opened and did not register itself")
        for name in options.networks:
            model = networks.NETWORKS[name]()
            compile_network(tvm, name, model, kind, options.arch, options.folder)
            if kind == "cpu":
                write_reference(name, model, options.folder)


main()
