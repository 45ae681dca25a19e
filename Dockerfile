# Compiled on Debian 12, whose glibc is older than that of the image it runs in, and on the machine's own
# architecture, whatever the image's is: nothing is emulated.
FROM --platform=$BUILDPLATFORM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /src

# For another architecture cargo needs its standard library, and a C compiler that links for it.
ARG TARGETARCH
RUN set -eu; \
    case $TARGETARCH in \
      amd64) machine=x86_64 ;; \
      arm64) machine=aarch64 ;; \
      *) echo "error: no image for '$TARGETARCH': linux/amd64 or linux/arm64" >&2; exit 1 ;; \
    esac; \
    if [ $machine != "$(uname -m)" ]; then \
      apt-get update; \
      apt-get install -y --no-install-recommends "crossbuild-essential-$TARGETARCH"; \
      rustup target add $machine-unknown-linux-gnu; \
      printf '[build]\ntarget = "%s"\n[target.%s]\nlinker = "%s"\n' $machine-unknown-linux-gnu \
        $machine-unknown-linux-gnu $machine-linux-gnu-gcc >>"$CARGO_HOME/config.toml"; \
    fi

# The dependencies first, with nothing to compile but them: their layer stays until Cargo.lock changes.
# Cargo looks at every member of the workspace, also at those that it does not compile.
COPY Cargo.toml Cargo.lock ./
COPY tests/azure-emulator/Cargo.toml tests/azure-emulator/
COPY tests/bench/Cargo.toml tests/bench/
COPY tests/fuzz/Cargo.toml tests/fuzz/
COPY tests/lab/Cargo.toml tests/lab/
COPY tests/simulation/Cargo.toml tests/simulation/
RUN set -eu; \
    for part in . tests/azure-emulator tests/bench tests/fuzz tests/lab tests/simulation; do \
      mkdir -p $part/src; \
      touch $part/src/lib.rs; \
    done; \
    echo 'fn main() {}' >src/main.rs; \
    cargo build --release --locked --bin awi

# Copied files keep their time: without `touch`, cargo would take what it compiled before for current.
COPY src src
RUN set -eu; \
    touch src/lib.rs src/main.rs; \
    cargo build --release --locked --bin awi; \
    install -D "$(find target -path '*/release/awi')" /out/awi

# The binary needs glibc, libgcc and the system's CA certificates; distroless/cc has these and little else.
# The platform is what it would be anyway, but for older podmans, which go on with that of the stage before.
FROM --platform=$TARGETPLATFORM gcr.io/distroless/cc-debian13:nonroot
COPY --from=build /out/awi /usr/local/bin/awi
ARG VERSION
LABEL org.opencontainers.image.title="airflow-workload-identity" \
      org.opencontainers.image.description="Kubernetes operator that makes Airflow on Azure passwordless" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
# In numbers, so that a cluster that asks for runAsNonRoot can tell.
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/awi"]
