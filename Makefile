# The one surface of the project: what CI runs, a person runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BUNDLE ?= bundles/transactions
DATA ?= ../shared/data
SERVICES ?= ../shared/services
PORT ?= 8000

.PHONY: setup run test test-serve test-score test-skew test-redis test-gitops test-kafka test-scaling test-data demo-autoscale bench bench-quick bench-quality bench-handbook bench-creditcard bench-router bench-faults bench-kafka-faults lint format lock clean bench-reasons bench-unseen

setup: $(STAMP)

# uv installs the hash-pinned lock in seconds where pip takes minutes; pip fetches uv itself, by
# the same lock's hashes.
$(STAMP): requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	sed -n '/^uv==/,/[^\\]$$/p' requirements-dev.lock > $(VENV)/uv.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock
	$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements-dev.lock
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

run: setup $(BUNDLE)/manifest.json
	$(BIN)/sentinel serve --bundle $(BUNDLE) --port $(PORT)

# A bundle to start with: a table of simulated transactions, and the models trained on it.
$(BUNDLE)/manifest.json: | $(STAMP)
	mkdir -p $(dir $(BUNDLE))
	$(BIN)/sentinel generate --out $(BUNDLE).parquet
	$(BIN)/sentinel train --data $(BUNDLE).parquet --dataset transactions --out $(BUNDLE)

# In two processes, one a core: the second's output is shown when both have ended.
test: setup
	@mkdir -p build
	@$(BIN)/python -m pytest tests/unit tests/loadtest tests/kafka_unit > build/test.log 2>&1 & second=$$!; \
	$(BIN)/python -m pytest tests/training tests/app; first=$$?; \
	wait $$second; second=$$?; cat build/test.log; exit $$((first | second))

test-serve: setup
	$(BIN)/python -m pytest tests/serve

test-score: setup
	$(BIN)/python -m pytest tests/score

# redis-server, which the tests start themselves, is a Debian package.
test-redis: setup
	command -v redis-server || { apt-get update -q && apt-get install -y -q redis-server; }
	$(BIN)/python -m pytest tests/redis

# Brokers are started by SERVICES/kafka/up, which needs Java and Maven; Redis keeps the profiles that
# must outlive a kill.
test-kafka: setup
	command -v redis-server || { apt-get update -q && apt-get install -y -q redis-server; }
	command -v java && command -v mvn || { apt-get update -q && apt-get install -y -q default-jre-headless maven; }
	SENTINEL_SERVICES_DIR=$(abspath $(SERVICES)) $(BIN)/python -m pytest tests/kafka

# A real Argo CD on a real API server of its own, from SERVICES; the last lines say what ran and what
# did not.
test-gitops: setup
	command -v redis-server || { apt-get update -q && apt-get install -y -q redis-server; }
	SERVICES=$(abspath $(SERVICES)) $(BIN)/python -m pytest tests/gitops

# Replicas that come and go on a real Ray Serve, with small replicas: some twenty minutes, ten of
# them a steady load (SENTINEL_STEADY_SECONDS says otherwise).
test-scaling: setup
	$(BIN)/python -m pytest tests/scaling

# One spike, by our policy and by Serve's default: the table and the picture of docs/autoscaling.md.
demo-autoscale: setup $(BUNDLE)/manifest.json
	$(BIN)/python -m loadtest.autoscale_demo --bundle $(BUNDLE) --out bench
	$(BIN)/python -m loadtest.figures

# The same promises on real tables, which the repository does not hold: DATA=folder with
# creditcard.parquet and transactions.parquet.
test-data: setup
	SENTINEL_DATA=$(abspath $(DATA)) $(BIN)/python -m pytest tests/data

# Thirty days of real transactions through the running service: are features online those offline?
test-skew: setup
	command -v redis-server || { apt-get update -q && apt-get install -y -q redis-server; }
	SENTINEL_DATA=$(abspath $(DATA)) $(BIN)/python -m pytest tests/skew

# The core, the service beside others, and with profiles beside none; then the tables of the pages.
# wrk, the load generator, is a Debian package; the contenders' environments and vegeta, the load
# generator of the open loop, are made below build/ by the bench itself. About a quarter of an hour.
bench: setup
	command -v wrk || { apt-get update -q && apt-get install -y -q wrk; }
	command -v redis-server || { apt-get update -q && apt-get install -y -q redis-server; }
	command -v go || [ -x /usr/local/go/bin/go ] || { apt-get update -q && apt-get install -y -q golang; } || true
	$(BIN)/sentinel bench --out bench
	$(BIN)/python -m loadtest.figures

# Is the service still as fast beside the limit as bench/serving.json says? Under two minutes.
bench-quick: setup
	command -v wrk || { apt-get update -q && apt-get install -y -q wrk; }
	$(BIN)/sentinel bench --against bench/serving.json

# Where a request's time goes in the router: a table and a flame graph, by py-spy.
bench-router: setup
	command -v wrk || { apt-get update -q && apt-get install -y -q wrk; }
	$(BIN)/python -m loadtest.router_profile bench
	$(BIN)/python -m loadtest.figures

# The quality table of the README: trained on the first 80% of creditcard.parquet, judged on the
# last 20%.
bench-quality: setup
	$(BIN)/sentinel train --data $(DATA)/creditcard.parquet --dataset creditcard --until 0.8 \
		--out build/creditcard-80
	$(BIN)/sentinel evaluate --data $(DATA)/creditcard.parquet --from 0.8 \
		--bundle build/creditcard-80 --json > bench/creditcard.json
	$(BIN)/python -m training.figures bench/creditcard.json > bench/creditcard.md

# Our defaults on the handbook's weeks (the tables of docs/quality.md; some ten minutes), and on the
# creditcard data by row order and beside a random split.
bench-handbook: setup
	mkdir -p build
	$(BIN)/sentinel benchmark handbook --data $(DATA)/transactions.parquet --json > build/handbook.json
	mv build/handbook.json bench/handbook.json
	$(BIN)/python -m training.figures bench/handbook.json > bench/handbook.md
	$(BIN)/python -m loadtest.figures

bench-creditcard: setup
	mkdir -p build
	$(BIN)/sentinel benchmark creditcard --data $(DATA)/creditcard.parquet --json > build/splits.json
	mv build/splits.json bench/creditcard-splits.json
	$(BIN)/python -m training.figures bench/creditcard-splits.json > bench/creditcard-splits.md
	$(BIN)/python -m loadtest.figures

# The tables of docs/novelty.md: one kind of fraud left out at a time, from transactions.parquet.
bench-unseen: setup
	mkdir -p build
	$(BIN)/sentinel benchmark unseen --data $(DATA)/transactions.parquet --json > build/unseen.json
	mv build/unseen.json bench/unseen.json
	$(BIN)/python -m training.unseen_report bench/unseen.json > bench/unseen.md
	$(BIN)/python -m loadtest.figures

# What the features in the reasons cost the service, at one flagged transaction in a hundred.
bench-reasons: setup
	command -v wrk || { apt-get update -q && apt-get install -y -q wrk; }
	$(BIN)/python -m loadtest.reasons_bench bench
	$(BIN)/python -m loadtest.figures

# The counts of docs/serving.md: what clients were told while replicas were killed under load.
bench-faults: setup
	SENTINEL_COUNTS=$(abspath bench/faults.md) $(BIN)/python -m pytest tests/serve/test_pair.py

# The table of docs/kafka.md: what became of every record while something was killed or refused.
bench-kafka-faults: setup
	rm -f bench/kafka-faults.md
	SENTINEL_SERVICES_DIR=$(abspath $(SERVICES)) SENTINEL_COUNTS=$(abspath bench/kafka-faults.md) \
		SENTINEL_BROKER_GONE_SECONDS=60 \
		$(BIN)/python -m pytest tests/kafka/test_worker_faults.py tests/kafka/test_ingest.py \
		tests/kafka/test_ingest_app.py
	$(BIN)/python -m loadtest.figures

# The files of the chart that follow from the code; a test holds them equal to it.
.PHONY: chart image
CHART_FILES := ray_cluster/chart/files
chart: setup
	cp serve_app/config.yaml $(CHART_FILES)/serve-config.yaml
	$(BIN)/python -m serve_app.environment > $(CHART_FILES)/environment.yaml
	$(BIN)/python -m ray_cluster.dashboard > $(CHART_FILES)/dashboard.json

# The image, by podman, docker or buildah (ENGINE), checked by starting it. IMAGE_BUNDLE=FOLDER bakes
# a bundle in. Where the engine needs more: ENGINE_FLAGS before its command, BUILD_FLAGS and
# ENGINE_RUN_FLAGS behind it (docs/chart.md).
ENGINE ?= $(notdir $(firstword $(shell command -v podman docker buildah)))
IMAGE_VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
IMAGE ?= localhost/sentinelstream:$(IMAGE_VERSION)
IMAGE_BUNDLE ?=
REVISION = $(shell git describe --always --dirty --abbrev=40 --exclude '*' 2>/dev/null || echo unknown)
image: $(if $(IMAGE_BUNDLE),$(IMAGE_BUNDLE)/manifest.json)
	$(ENGINE) $(ENGINE_FLAGS) build $(BUILD_FLAGS) --file ray_cluster/Containerfile --tag $(IMAGE) \
		--build-arg VERSION=$(IMAGE_VERSION) --build-arg REVISION=$(REVISION) \
		--build-arg BUNDLE=$(IMAGE_BUNDLE) .
	ENGINE=$(ENGINE) ENGINE_FLAGS="$(ENGINE_FLAGS)" ENGINE_RUN_FLAGS="$(ENGINE_RUN_FLAGS)" \
		ray_cluster/check-image $(IMAGE)

# A trial on the kubeconfig's cluster, or on one that kind makes. IMAGE=NAME:TAG is taken as it is;
# without it one is built, with a bundle in it. TRIAL: more options (python -m ray_cluster.trial -h).
.PHONY: cluster-up cluster-down test-cluster
TRIAL ?=
GIVEN_IMAGE = $(if $(filter command environment,$(firstword $(origin IMAGE))),--image $(IMAGE))
cluster-up: setup
	$(BIN)/python -m ray_cluster.trial up $(GIVEN_IMAGE) $(if $(LOAD),--load '$(LOAD)') $(TRIAL)

cluster-down: setup
	$(BIN)/python -m ray_cluster.trial down $(TRIAL)

# On the API server of KUBECONFIG, with KubeRay's CRDs; pods run where KUBERAY_OPERATOR says whose
# operator runs there (docs/cluster.md). The last lines say what ran and what did not.
test-cluster: setup
	command -v promtool && command -v redis-server || { apt-get update -q && apt-get install -y -q prometheus redis-server; }
	$(BIN)/python -m pytest tests/chart; chart=$$?; \
	$(BIN)/python -m pytest tests/cluster; exit $$((chart | $$?))

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# No index lines and no URLs: the lock names packages and hashes alone. Contenders of the bench have
# locks of their own, with the same releases of what runs the models (loadtest/rivals/runtime.in).
LOCK := $(BIN)/uv pip compile -q --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-annotate --no-header
RIVALS := loadtest/rivals
lock: setup
	$(LOCK) pyproject.toml -o requirements.lock
	$(LOCK) pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock
	$(LOCK) ray_cluster/image.in -c requirements.lock -o ray_cluster/image.lock
	@mkdir -p build
	grep -E "^($$(paste -sd'|' $(RIVALS)/runtime.in)|scikit-learn)==" requirements.lock | tr -d '\\' > build/runtime.txt
	for name in litserve mlserver reference; do \
		$(LOCK) $(RIVALS)/$$name.in -c build/runtime.txt -o $(RIVALS)/$$name.lock || exit 1; done
	@# quixstreams refuses the newest pydantic, which runs no model.
	grep -v '^pydantic==' build/runtime.txt > build/runtime-quix.txt
	$(LOCK) $(RIVALS)/quixstreams.in -c build/runtime-quix.txt -o $(RIVALS)/quixstreams.lock

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
