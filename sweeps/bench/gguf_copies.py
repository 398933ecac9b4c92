"""Copies of a GGUF file with other weights, for engines that read nothing else."""

from pathlib import Path
from typing import Any, Literal

Weights = Literal["F32", "Q8_0"]


def write_copy(gguf_file: Path, target: Path, weights: Weights) -> None:
    """Write a GGUF file with the same model, its matrices dequantised to float32 or, of these, quantised to 8 bits in
    blocks of 32."""
    import gguf
    from gguf.quants import dequantize, quantize

    reader = gguf.GGUFReader(gguf_file)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name not in ("general.architecture", "general.file_type"):
            sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type)
    kind = gguf.GGMLQuantizationType[weights]
    for tensor in reader.tensors:
        values: Any = dequantize(tensor.data, tensor.tensor_type)
        if weights == "Q8_0" and values.ndim > 1:
            writer.add_tensor(tensor.name, quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(tensor.name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
