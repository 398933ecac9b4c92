"""TrialSpec: everything that defines one trial, as pure data, and its identity.

Two trials with equal specs give equal answers. A sweep therefore resumes by the identity, which is a hash of the spec:
a spec whose identity has a finished result does not run again. The place where a trial runs (host, device, replica) is
not part of the spec.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from harness.topology import TopologyName, check_agents
from harness.workloads.base import Workload
from harness.workloads.recall import RecallSpec
from kvcomm_core.config import CacheBlendConfig, KVCommConfig, require

IDENTITY_VERSION = 3
"""Version of the identity. Raise it when the meaning of a field changes, so that old results are not mistaken for
new ones."""

MethodName = Literal["dense", "prefix", "naive", "cacheblend", "kvcomm"]
DTypeName = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialSpec:
    """One trial: a method on a workload with a number of agents. A sweep file may set any field."""

    __pydantic_config__ = {"extra": "forbid", "strict": True}  # noqa: RUF012 - read by pydantic, not a field

    model: str = "embedded"
    """``embedded``, a Hub id (``@`` and a branch, tag or commit may follow), a local folder, a ``.gguf`` file, or
    ``random:<shape>``."""

    dtype: DTypeName = "auto"
    """Dtype of weights and KV. ``auto`` is bfloat16 on a GPU and float32 on a CPU."""

    method: MethodName = "dense"
    """How the KV of a prompt is obtained."""

    cacheblend: CacheBlendConfig | None = None
    """Parameters of ``cacheblend``; None with any other method."""

    kvcomm: KVCommConfig | None = None
    """Parameters of ``kvcomm``; None with any other method."""

    workload: Workload = field(default_factory=RecallSpec)
    """The source of the items."""

    topology: TopologyName = "fully_connected"
    """Who reads whom; ``harness/topology.py`` defines each. Timings are ``fully_connected``."""

    agents: int = 3
    """Number of agents, including the decision agent, as the paper's tables count. At least 2, or 1 with topology
    ``single``. ``blend`` has no agents; ``contexts`` and ``proximity`` use only the prompts of their roles."""

    rounds: int = 1
    """Rounds of conversation per item. In each round every agent takes a turn. From the second round on it also
    reads answers of the round before, as the topology says. The last answer of the decision agent is graded. At
    least 1."""

    seed: int = 0
    """Seed of generated items and of every random choice. Not negative."""

    max_new_tokens: int = 64
    """Maximum length of an agent's answer, in tokens. At least 1. Timings set the length of answers elsewhere."""

    batch_size: int = 1
    """Number of items that move through the agents together. They see the anchor pools as they were when the batch
    began, so this changes what is reused. At least 1."""

    shards: int = 1
    """Number of parts that the items are divided into. Each part runs with its own pools on any free replica, so the
    trial ends sooner and reuses less. At least 1, and at most the number of items; see ``harness/trials/shards.py``."""

    fidelity: float = 0.0
    """Share of the turns, 0 to 1, that are compared with a dense turn on the same prompt, outside the timed part and
    only if they reuse anything. The comparison covers next token, greedy answer, keys and values."""

    def __post_init__(self) -> None:
        require(bool(self.model.strip()), "model", self.model, "a model name")
        require(self.method in get_args(MethodName), "method", self.method, ", ".join(get_args(MethodName)))
        check_agents(self.topology, self.agents)
        require(self.rounds >= 1, "rounds", self.rounds, "1 or more")
        require(self.seed >= 0, "seed", self.seed, "0 or more")
        require(self.max_new_tokens >= 1, "max_new_tokens", self.max_new_tokens, "1 or more")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "1 or more")
        require(self.shards >= 1, "shards", self.shards, "1 or more")
        require(0.0 <= self.fidelity <= 1.0, "fidelity", self.fidelity, "0 to 1")
        for method, parameters in (("cacheblend", CacheBlendConfig), ("kvcomm", KVCommConfig)):
            given = getattr(self, method)
            require(given is None or self.method == method, method, given, f"only with method {method}")
            if given is None and self.method == method:
                object.__setattr__(self, method, parameters())
        if not self.workload.graded:
            for name, value, only in (
                ("rounds", self.rounds, 1),
                ("batch_size", self.batch_size, 1),
                ("shards", self.shards, 1),
                ("fidelity", self.fidelity, 0),
            ):
                if name == "rounds" or name in self.workload.unused_fields:
                    require(value == only, name, value, f"{only}, with workload {self.workload.name}")
        self.workload.check(self)

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain data, including defaults."""
        return asdict(self)

    @property
    def trial_id(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of the spec's canonical JSON."""
        payload = {"identity_version": IDENTITY_VERSION, **self.to_dict()}
        canonical = json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def dense_counterpart(self) -> "TrialSpec":
        """Return the dense trial to compare this one with, which differs only in the method and its parameters.

        A trial that has no such comparison returns itself.
        """
        if not self.workload.compares_with_dense:
            return self
        return replace(self, method="dense", cacheblend=None, kvcomm=None, fidelity=0.0)


TRIAL_FIELDS = tuple(f.name for f in fields(TrialSpec))
