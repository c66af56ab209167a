# `make help` lists the targets. Everything is set up in .venv and build/ of this checkout.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BACKBONE := build/backbone
BANK := service/textcam_service/data/photos
SCENES := build/scenes
GPU := build/gpu
SERVER ?= 127.0.0.1:50051
# Tests that measure no time run side by side, in order of their length; the others run alone.
SIDE_BY_SIDE := $(addprefix tests/,deploy install integration/export integration/banks oracle unit architecture docs examples)
# Four photographs that scikit-image ships.
SAMPLES = $(shell $(BIN)/python -c "import pathlib, skimage; d = pathlib.Path(skimage.__file__).parent / 'data'; print(*(d / n for n in ('chelsea.png', 'coffee.png', 'rocket.jpg', 'motorcycle_left.png')))")
IMAGES ?= $(SAMPLES)

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-scenes serve test test-faults test-zoo lint types bench bench-cams bench-truth bench-worlds bench-serve bench-gpu deploy-check docs guide changelog protos contract bank scenes-weights clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

setup: $(VENV)/.done ## Install everything into .venv

$(BACKBONE)/backbone.json: $(VENV)/.done
	$(BIN)/textcam export --output $(BACKBONE)

demo: $(BACKBONE)/backbone.json ## Explain four photographs (or IMAGES="a.jpg b.png") with a real server
	$(BIN)/python tools/demo.py --backbone $(BACKBONE) --output build/demo $(IMAGES)

# Class names are descriptions here, and a spurious cue is rare in the probing set, so that its
# probability is low. The other settings are of wording=embeddings, as in the paper.
$(SCENES)/bank/bank.json: $(VENV)/.done
	$(BIN)/textcam export --model scenes:classifier --output $(SCENES)/backbone
	$(BIN)/textcam scenes --output $(SCENES)/probing
	$(BIN)/textcam bank build --backbone $(SCENES)/backbone --images $(SCENES)/probing \
		--embedder scenes --vocabulary $(SCENES)/probing/vocabulary.txt --keep-common \
		--rationale sparsity=0.48 --rationale decorrelation=0.15 --rationale candidates=1000 \
		--rationale root=false --rationale prior=0 --rationale repeat_class=true \
		--rationale min_probability=0 --output $(SCENES)/bank

demo-scenes: $(SCENES)/bank/bank.json ## Explain four rendered scenes, whose truth is known
	$(BIN)/textcam scenes --count 4 --seed 9 --output $(SCENES)/shown
	$(BIN)/python tools/demo.py --backbone $(SCENES)/backbone --bank $(SCENES)/bank \
		--output build/demo-scenes $(SCENES)/shown/*.png

serve: $(BACKBONE)/backbone.json ## Serve on 127.0.0.1:50051
	$(BIN)/textcam serve --backbone $(BACKBONE)

test: $(BACKBONE)/backbone.json ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(SIDE_BY_SIDE)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE:%=--ignore=%)

lint: $(VENV)/.done ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.done ## Check types
	$(BIN)/mypy

bench: $(BACKBONE)/backbone.json ## Run the benchmarks; tables go to build/bench
	$(BIN)/python tests/bench/bench_bank.py
	$(BIN)/python tests/bench/bench_photographs.py
	$(BIN)/python tests/bench/bench_labels.py
	$(BIN)/python tests/bench/bench_arena.py
	$(BIN)/python tests/bench/bench_decode.py
	$(BIN)/python tests/bench/bench_resampling.py

bench-truth: $(VENV)/.done ## Judge explanations by the rendered world's truth
	$(BIN)/python tests/bench/bench_truth.py

bench-worlds: bench-truth ## Judge whether cues of five other biased worlds are named (20 minutes)
	$(BIN)/python tests/bench/bench_worlds.py

bench-cams: $(VENV)/.done ## Time every CAM method beside grad-cam, torchcam and the bare forward
	$(BIN)/python tests/bench/bench_cams.py --slow

test-faults: $(VENV)/.done ## Put servers through every fault in its full count (over an hour)
	$(BIN)/python -m pytest --whole tests/faults \
		tests/integration/registry/test_models.py::test_many_switches_under_load

bench-serve: $(BACKBONE)/backbone.json ## Time the service beside its peers under load (half an hour; installs them, 7 GB)
	$(BIN)/python tests/bench/bench_serve.py

$(GPU)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(GPU)
	$(GPU)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt '.[gpu]'
	touch $@

bench-gpu: $(VENV)/.done $(GPU)/.done ## Time explanations on a GPU (installs onnxruntime-gpu and CUDA's libraries, 4 GB)
	$(BIN)/python tests/bench/bench_gpu.py --prepare
	$(GPU)/bin/python tests/bench/bench_gpu.py

test-zoo: $(VENV)/.done ## Export and explain many networks of torchvision and timm (hours; goes on where it was)
	$(BIN)/python tests/zoo/run_zoo.py

deploy-check: $(BACKBONE)/backbone.json ## Check deploy/ and the contract offline (make test does too)
	$(BIN)/python -m pytest tests/deploy

docs: $(VENV)/.done ## Build the documentation site into build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

changelog: $(VENV)/.done ## Print the next release's section of the changelog
	$(BIN)/towncrier build --draft --version next

guide: $(VENV)/.done ## Rewrite the documentation's tables that are made from code
	$(BIN)/python tools/guide_tables.py

scenes-weights: $(VENV)/.done ## Train the rendered world's networks again (maintainers)
	$(BIN)/python -m textcam_service.offline.scene_training

protos: $(VENV)/.done ## Regenerate the stubs of the contract
	$(BIN)/python protos/generate.py

contract: $(VENV)/.done ## Note the contract as released; later ones must not break it (maintainers)
	$(BIN)/python protos/generate.py --released

bank: $(BACKBONE)/backbone.json ## Rebuild the default bank from ../shared (maintainers)
	$(BIN)/textcam bank build --backbone $(BACKBONE) --images ../shared/photos --images ../shared/imagenet-small \
		--images ../shared/sun-scenes --images ../shared/food-tags --samples 200 --shrinkage 0.8 --per-class 2 --output build/bank
	cp build/bank/bank.* build/bank/vocabulary.* $(BANK)/
	$(BIN)/python -m textcam_service.offline.embedders.packaged

clean: ## Remove what was built, but not .venv
	rm -rf build
