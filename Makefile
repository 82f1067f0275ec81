# Everything happens in .venv; `make` alone lists the targets.

PYTHON ?= python3
VENV   := .venv
# A venv of its own: the binding takes long to build, loads the GPU's driver at every start, and the
# one that is tested on CPUs stays.
VULKAN := .venv-vulkan
# Headers newer than the system's: make vulkan VULKAN_INCLUDE=/path/with/vulkan
VULKAN_INCLUDE ?=
VULKAN_DEVICE  ?= 0
BIN    := $(VENV)/bin
RPC    := .venv-rpc
# More arguments for pytest: make test ARGS="-k sampling"
ARGS   ?=
# One worker per core; a file's tests stay together, for they share models. -n 0 is one process.
WORKERS ?= -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
MINUTES ?= 60
# PyPI's torch for Linux brings gigabytes of CUDA; here it only trains and checks tiny models, and
# the build of this index with the suffix +cpu is preferred wherever there is one.
TORCH       ?= torch==2.13.0
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

.DEFAULT_GOAL := help
.PHONY: help setup demo test slow fuzz test-ray rpc test-rpc vulkan test-vulkan soak lint reference bench \
	bench-peer picture

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## make .venv; the first time this compiles llama.cpp (5 to 10 minutes)

demo: setup ## generate with the embedded pair, with and without its drafter
	$(BIN)/mtpcli demo

test: setup ## run the tests
	$(BIN)/python -m pytest $(WORKERS) $(ARGS)

slow: setup ## run the tests that take minutes, such as fifty kills of one batch
	$(BIN)/python -m pytest -m slow $(WORKERS) $(ARGS)

soak: setup ## an hour of batches and chats in one process: memory, handles, texts (MINUTES=60)
	$(BIN)/python -m tests.soak.run --minutes $(MINUTES) --out soak

test-ray: $(VENV)/.ready-ray ## run the tests of batches on a Ray cluster (installs Ray)
	$(BIN)/python -m pytest -m ray $(ARGS)

rpc: $(RPC)/.ready ## make .venv-rpc, where llama.cpp has its RPC backend (compiles it: 5 to 20 minutes)

test-rpc: rpc ## run the tests of models spread over RPC servers
	$(RPC)/bin/python -m pytest -m rpc $(ARGS)

fuzz: setup ## give 5000 damaged files and inputs to the program; ARGS="-n 100" for fewer of each
	for campaign in pairs checkpoints commands; do \
		$(BIN)/python -m tests.fuzz.run $$campaign $(ARGS) || exit 1; done

vulkan: $(VULKAN)/.ready ## make .venv-vulkan, with a binding that uses Vulkan (15 minutes)

# Mesa's llvmpipe is a Vulkan device on any CPU; llama.cpp hides it unless told its number.
test-vulkan: vulkan ## drafts, heads and cells on Vulkan; without a GPU on Mesa's llvmpipe (slow)
	GGML_VK_VISIBLE_DEVICES=$(VULKAN_DEVICE) $(VULKAN)/bin/python -m pytest -v -m device $(ARGS)

lint: setup ## check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

reference: $(VENV)/.ready-reference ## compare with transformers and llama.cpp's own tools (installs torch)
	$(BIN)/python -m pytest -m reference $(ARGS)

bench: setup ## speeds by workload and depth, on the embedded pair
	$(BIN)/mtpcli bench $(ARGS)

bench-peer: setup ## the same files and prompts through llama-server, in turn (builds it: minutes)
	$(BIN)/python -m tests.reference.bench_peer $(ARGS)

picture: setup ## draw the README's picture of the coloured drafts, from a real chat
	$(BIN)/python -m mtpcli.cli.picture mtpcli/demo/drafts.svg

# Stamps: done again when the dependencies change, and only then.
$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "mtpcli needs Python 3.10 or newer: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing. If pip has no llama-cpp-python yet it compiles llama.cpp now: 5 to 10 minutes."
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]' || \
		{ echo "Installing failed. Compiling llama.cpp needs a C++ compiler (Debian: build-essential)."; exit 1; }
	@touch $@

$(VENV)/.ready-reference: $(VENV)/.ready
	$(BIN)/python -m pip install --disable-pip-version-check --extra-index-url $(TORCH_INDEX) \
		-e '.[dev,train]' '$(TORCH)'
	@touch $@

$(VENV)/.ready-ray: $(VENV)/.ready
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev,ray]'
	@touch $@

# Without pip's cache, whose wheel was built otherwise.
$(RPC)/.ready: pyproject.toml
	$(PYTHON) -m venv $(RPC)
	CMAKE_ARGS="-DGGML_RPC=on" $(RPC)/bin/python -m pip install --disable-pip-version-check \
		--no-cache-dir --no-binary llama-cpp-python -e '.[dev]'
	@touch $@

$(VULKAN)/.ready: pyproject.toml
	@command -v glslc >/dev/null || \
		{ echo "glslc is missing, which compiles Vulkan's shaders (Debian, Ubuntu: glslc or shaderc)."; exit 1; }
	@printf '#include <vulkan/vulkan.hpp>\n#include <spirv/unified1/spirv.hpp>\nvk::LayerSettingEXT s;' | \
		$(CXX) $(addprefix -I,$(VULKAN_INCLUDE)) -std=c++17 -fsyntax-only -x c++ - 2>/dev/null || \
		{ echo "Vulkan's headers are missing or too old: llama.cpp needs newer ones than 1.3.239, vulkan.hpp among them, and SPIR-V's."; \
		echo "Debian, Ubuntu: apt install libvulkan-dev spirv-headers. Debian 12 and Ubuntu 22.04 have older ones:"; \
		echo "unpack a newer libvulkan-dev (dpkg -x FILE.deb FOLDER), then make vulkan VULKAN_INCLUDE=FOLDER/usr/include"; exit 1; }
	$(PYTHON) -m venv $(VULKAN)
	@echo "Compiling llama.cpp with Vulkan: 10 to 20 minutes."
	CMAKE_ARGS="-DGGML_VULKAN=on $(if $(VULKAN_INCLUDE),-DVulkan_INCLUDE_DIR=$(VULKAN_INCLUDE))" \
		$(VULKAN)/bin/python -m pip install --disable-pip-version-check --no-cache-dir \
		--no-binary llama-cpp-python -e '.[dev]'
	@touch $@
