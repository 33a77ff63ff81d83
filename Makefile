# make demo | test | check | bench | trust: each installs what it needs into .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check bench trust clean

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@

demo: .venv/installed
	$(BIN)/narrows train vqvae-digits --out runs/demo
	$(BIN)/narrows prior runs/demo --recipe pixelcnn-digits
	$(BIN)/narrows sample runs/demo -n 40
	@echo "Open runs/demo/report.html"

test: .venv/installed-dev check
	$(BIN)/pytest -n 2 --dist loadfile

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed-dev
	$(BIN)/pip install -q -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks.quantizer
	$(BIN)/python -m benchmarks.pixelcnn
	$(BIN)/python -m benchmarks.frames
	$(BIN)/python -m benchmarks.autoregressive
	$(BIN)/python -m benchmarks.hierarchy
	$(BIN)/python -m benchmarks.wavenet
	$(BIN)/python -m benchmarks.vrae
	$(BIN)/python -m benchmarks.loader
	$(BIN)/python -m benchmarks.tables
	$(BIN)/python -m benchmarks.motion
	$(BIN)/python -m benchmarks.compile

trust: .venv/installed-dev
	$(BIN)/python -m benchmarks.kill
	$(BIN)/python -m benchmarks.mutate

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
