# make demo      a stranger's first command: install, build the demo gallery, recognise the demo photos
# make install   .venv with shitu and everything that the tests need
# make test      the whole test suite
# make test-again   what failed last time, one after the other
# make check     lint and types
# make bench     shitu benchmark with the bundled models: output/bench.json and output/bench.svg
# make research  torch (large), and the tests of research/

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo install test test-again check research bench clean

demo: $(VENV)/.core
	@echo "The demo: 240 pictures of 80 things into a gallery, 10 photos recognised; some seconds."
	$(BIN)/shitu demo

# Two files at a time, a thread each: with Paddle's and faiss's own threads beside, both wait for each other.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-again: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --last-failed --last-failed-no-failures none

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

research: $(VENV)/.research
	$(BIN)/python -m pytest research

install: $(VENV)/.dev

# On an idle machine in a few minutes; on a busy one refused, unless BENCH=--anyway.
bench: install
	mkdir -p output
	$(BIN)/shitu build-gallery -o IndexProcess.index_dir=output/bench_index
	$(BIN)/shitu benchmark -o IndexProcess.index_dir=output/bench_index --rounds 3 --starts 1 --format json \
	  --plot output/bench.svg $(BENCH) > output/bench.json

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || \
	  { echo "shitu needs Python 3.10 to 3.13, $(PYTHON) is $$($(PYTHON) -V). Name another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(BIN)/python pyproject.toml
	@echo "Installing shitu with PaddlePaddle, ONNX Runtime, faiss and OpenCV into $(VENV), once; nothing outside it changes."
	@echo "About 1.2 GB on disk, a third of that to download: one to five minutes, without a word from pip if all is well."
	$(PIP) install --quiet --editable .
	@touch $@

# paddleclas and paddledet pin versions that exclude each other; they work together with newer ones (pyproject.toml)
$(VENV)/.dev: $(BIN)/python pyproject.toml
	$(PIP) install --quiet --editable '.[dev,train,onnx,openvino,formats,parquet,serve,milvus,pgvector,ray,tensorboard,visualdl]'
	$(PIP) install --quiet --no-deps paddleclas==2.6.0 paddledet==2.6.0
	@touch $@ $(VENV)/.core

$(VENV)/.research: $(VENV)/.dev
	$(PIP) install --quiet --editable '.[dev,train,onnx,openvino,formats,research]'
	@touch $@

clean:
	rm -rf $(VENV) output build dist
