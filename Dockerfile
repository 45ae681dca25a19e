# The binary needs glibc and the system's CA certificates; distroless/cc has both and little else.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin awi

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/awi /usr/local/bin/awi
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/awi"]
