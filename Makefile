# `make help` lists the targets. Everything is set up in .venv and build/ of this checkout.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BACKBONE := build/backbone
BANK := service/textcam_service/data/photos
SERVER ?= 127.0.0.1:50051
# Four photographs that scikit-image ships.
SAMPLES = $(shell $(BIN)/python -c "import pathlib, skimage; d = pathlib.Path(skimage.__file__).parent / 'data'; print(*(d / n for n in ('chelsea.png', 'coffee.png', 'rocket.jpg', 'motorcycle_left.png')))")
IMAGES ?= $(SAMPLES)

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test lint types bench protos clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

setup: $(VENV)/.done ## Install everything into .venv

$(BACKBONE)/backbone.json: $(VENV)/.done
	$(BIN)/textcam export --output $(BACKBONE)

demo: $(BACKBONE)/backbone.json ## Explain four photographs (or IMAGES="a.jpg b.png") with a real server
	$(BIN)/python deploy/demo.py --backbone $(BACKBONE) --output build/demo $(IMAGES)

serve: $(BACKBONE)/backbone.json ## Serve on 127.0.0.1:50051
	$(BIN)/textcam serve --backbone $(BACKBONE)

test: $(BACKBONE)/backbone.json ## Run the tests
	$(BIN)/python -m pytest

lint: $(VENV)/.done ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.done ## Check types
	$(BIN)/mypy

bench: $(BACKBONE)/backbone.json ## Run the benchmarks; tables go to build/bench
	$(BIN)/python tests/bench/bench_bank.py
	$(BIN)/python tests/bench/bench_words.py

protos: $(VENV)/.done ## Regenerate the stubs of the contract
	$(BIN)/python protos/generate.py

bank: $(BACKBONE)/backbone.json ## Rebuild the default bank from ../shared (maintainers)
	$(BIN)/textcam bank build --backbone $(BACKBONE) --images ../shared/photos --images ../shared/caltech \
		--samples 200 --shrinkage 0.8 --per-class 4 --output build/bank
	cp build/bank/* $(BANK)/

clean: ## Remove what was built, but not .venv
	rm -rf build
