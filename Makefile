# Each target is one script or one cargo call; the scripts say what they do.
.PHONY: demo test test-long run check setup

demo: ## Build the release binary and watch it do its main job.
	scripts/setup build
	scripts/demo

test: ## Everything that CI runs.
	scripts/setup test
	scripts/check
	scripts/with-postgres scripts/with-s3 cargo test --locked --workspace --lib --bins --tests
	NEURALHUB_TEST_STORE=postgres scripts/with-postgres cargo test --locked --workspace --test server
	NEURALHUB_TEST_BLOBS=s3 scripts/with-s3 cargo test --locked --package nh-server --test server storage
	NEURALHUB_TEST_SANDBOXES=process cargo test --locked --package nh-server --test server sandbox
	NEURALHUB_TEST_SANDBOXES=microvm cargo test --locked --package nh-server --test server sandboxes::a_
	scripts/test-clients
	scripts/demo --debug

test-long: ## The property tests with many more cases, the simulation with many more seeds, and a hub killed many times.
	scripts/setup test
	PROPTEST_CASES=20000 NEURALHUB_SIMULATION_SEEDS=5000 NEURALHUB_KILLS=100 scripts/with-postgres scripts/with-s3 cargo test --locked --workspace --lib --bins --tests
	NEURALHUB_TEST_SANDBOXES=microvm cargo test --locked --package nh-server --test server sandbox

run: ## Serve on http://127.0.0.1:8080; the data stays in ./data.
	scripts/setup build
	cargo run --locked --release --package neuralhub -- serve

check: ## Formatting, lints, licences.
	scripts/check

setup: ## Install what the targets above need.
	scripts/setup test
